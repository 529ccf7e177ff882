"""Which tensor of a GGUF file is which of ours, and what is done to it on the way."""

import re
from typing import NamedTuple

from subgpt.model.config import GPTConfig

_GPT2 = {
    "transformer.wte": "token_embd", "transformer.wpe": "position_embd", "transformer.ln_f": "output_norm",
    "ln_1": "attn_norm", "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output", "ln_2": "ffn_norm",
    "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down", "lm_head": "output",
}  # fmt: skip
_LLAMA = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm", "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip
_GEMMA = {
    **_LLAMA, "post_attention_layernorm": "post_attention_norm", "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}  # fmt: skip
# Architectures whose heads llama.cpp rotates in neighbouring pairs.
_PAIRS = ("llama", "arcee", "smollm3")
_BLOCK = 32


class Place(NamedTuple):
    """A tensor: its name in the file, ours, the change (see `rust/python/src/gguf.rs`), and the format."""

    name: str
    of: str
    change: str
    format: str


def places(
    shapes: dict[str, tuple[int, ...]], config: GPTConfig, architecture: str, format: str = "f32"
) -> list[Place]:
    """List all tensors of a model for a file of `architecture`, matrices in `format`.

    shapes: of ours by name. Vectors are float32, and so is a table of positions; matrices whose rows are no whole
    blocks of 32 are float16 where `format` has blocks.
    """
    return [
        Place(
            _name(of, architecture), of, _change(of, config, architecture), _format(of, shape, format, config)
        )
        for of, shape in shapes.items()
    ]


def _name(of: str, architecture: str) -> str:
    names = {"gpt2": _GPT2, "gemma2": _GEMMA, "gemma3": _GEMMA}.get(architecture, _LLAMA)
    stem, end = of.rsplit(".", 1)
    layer = re.fullmatch(r"(?:transformer\.h|model\.layers)\.(\d+)\.(.+)", stem)
    if layer is None:
        return f"{names[stem]}.{end}"
    return f"blk.{layer[1]}.{names[layer[2]]}.{end}"


def _change(of: str, config: GPTConfig, architecture: str) -> str:
    if architecture == "gpt2":
        return "transposed" if of.endswith(".weight") and (".attn." in of or ".mlp." in of) else ""
    if architecture in _PAIRS and ".q_proj." in of:
        return str(config.n_head)
    if architecture in _PAIRS and ".k_proj." in of:
        return str(config.kv_heads)
    return "plus_one" if config.norm_unit_offset and of.endswith("norm.weight") else ""


def _format(of: str, shape: tuple[int, ...], format: str, config: GPTConfig) -> str:
    if len(shape) < 2 or ".wpe." in of:
        return "f32"
    linear = config.is_gpt2 and (".attn." in of or ".mlp." in of)
    row = shape[0] if linear else shape[1]  # as it lies in the file
    return "f16" if format.startswith("q") and row % _BLOCK else format

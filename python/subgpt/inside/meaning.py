"""What a weight is for, in a few words, from the name of its tensor."""

import re
from typing import TYPE_CHECKING

from subgpt.evaluation.next_tokens import token_text

if TYPE_CHECKING:
    from subgpt.tokenizer import Tokenizer

_BLOCK = re.compile(r"\.(\d+)\.")
_PARTS = {
    "attn.c_attn": "attention, queries, keys and values",
    "attn.c_proj": "attention, output",
    "mlp.c_fc": "MLP, first layer",
    "mlp.c_proj": "MLP, second layer",
    "q_proj": "attention, queries",
    "k_proj": "attention, keys",
    "v_proj": "attention, values",
    "o_proj": "attention, output",
    "gate_proj": "MLP, gate",
    "up_proj": "MLP, first layer",
    "down_proj": "MLP, second layer",
    "ln_1": "norm before attention",
    "ln_2": "norm before the MLP",
    "q_norm": "norm of queries",
    "k_norm": "norm of keys",
    "norm": "norm",
}


def meaning_of(tensor: str, index: tuple[int, ...], tokenizer: "Tokenizer") -> str:
    """Say what the weight at `index` of `tensor` belongs to.

    >>> from subgpt.inside.tiny import tiny_model
    >>> _, tokenizer = tiny_model("abc")
    >>> meaning_of("transformer.wte.weight", (1, 7), tokenizer)
    "embedding of 'b'"
    >>> meaning_of("transformer.h.1.attn.c_proj.bias", (3,), tokenizer)
    'block 1: attention, output'
    """
    module = tensor.rpartition(".")[0]
    match module.rpartition(".")[2]:
        case "wte" | "embed_tokens":
            return f"embedding of {token_text(tokenizer, index[0])!r}"
        case "wpe":
            return f"embedding of position {index[0]}"
        case "lm_head":
            return f"output layer, token {token_text(tokenizer, index[0])!r}"
    block = _BLOCK.search(tensor)
    if block is None:
        return "last norm"
    return f"block {block[1]}: {next(words for part, words in _PARTS.items() if module.endswith(part))}"

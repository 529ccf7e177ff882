"""`LoraConfig`: what an adapter is, in PEFT's words.

For a linear layer with weight W (out, in) an adapter has A (r, in) and B (out, r), and computes with
W + scale B A, where scale is lora_alpha / r, or lora_alpha / sqrt(r) with use_rslora (Hu et al., "LoRA", 2021;
Kalajdzievski, "A rank stabilization scaling factor for fine-tuning with LoRA", 2023). With use_dora every row of
that is given the length of a learned magnitude (Liu et al., "DoRA: weight-decomposed low-rank adaptation", 2024).
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from subgpt.errors import ConfigError

# Settings of PEFT's that change what is computed, and the only values that are computed here.
_FIXED: dict[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none",),
    "lora_bias": (False, None),
    "modules_to_save": (None, []),
    "trainable_token_indices": (None,),
    "target_parameters": (None, []),
    "layer_replication": (None,),
    "alora_invocation_tokens": (None,),
    "use_qalora": (False, None),
    "use_bdlora": (False, None),
    "megatron_config": (None,),
}
# PEFT's initializations that take a part of the base's weights into the adapter: it lies over what is left of them.
_CHANGE_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
_MOST_RANK = 1 << 16
_LONGEST_KEY, _MOST_CHOICES = 256, 4
"""How long a key of a pattern may be, and in how many places a match of it may go on in several ways."""
ALL_LINEAR = "all-linear"


@dataclass(frozen=True)
class LoraConfig:
    """An adapter's settings.

    r: rank. lora_alpha: numerator of the scale. lora_dropout: share of the inputs of A that fall out in training;
    unlike PEFT's they fall out for A alone with DoRA, too. target_modules: names of layers, or their ends ("q_proj"),
    as PEFT matches them, and a single one may stand alone; "all-linear" is every linear layer of the blocks.
    rank_pattern, alpha_pattern: other ranks and alphas by the same kind of names, or regular expressions for
    them, of which the first that matches counts. base: what the adapter was made for, as it was called then.
    """

    r: int = 8
    lora_alpha: float = 16
    lora_dropout: float = 0.0
    target_modules: tuple[str, ...] = (ALL_LINEAR,)
    use_rslora: bool = False
    use_dora: bool = False
    rank_pattern: tuple[tuple[str, int], ...] = ()
    alpha_pattern: tuple[tuple[str, float], ...] = ()
    base: str = ""

    def __post_init__(self) -> None:
        targets: object = self.target_modules
        targets = (targets,) if isinstance(targets, str) else targets
        if not isinstance(targets, Iterable) or not all(isinstance(name, str) for name in targets):
            raise ConfigError(
                f"LoraConfig: target_modules = {self.target_modules!r} are no names of layers; give a tuple of them, "
                f"as ('q_proj', 'v_proj'), or {ALL_LINEAR!r}"
            )
        object.__setattr__(self, "target_modules", tuple(targets))
        for key in (*dict(self.rank_pattern), *dict(self.alpha_pattern)):
            _check_key(key)
        for rank in (self.r, *dict(self.rank_pattern).values()):
            if isinstance(rank, bool) or not isinstance(rank, int) or not 1 <= rank <= _MOST_RANK:
                raise ConfigError(
                    f"LoraConfig: r = {rank!r} is not a rank; give a whole number from 1 to {_MOST_RANK}"
                )
        for alpha in (self.lora_alpha, *dict(self.alpha_pattern).values()):
            if (
                isinstance(alpha, bool)
                or not isinstance(alpha, int | float)
                or not math.isfinite(alpha)
                or alpha == 0
            ):
                raise ConfigError(
                    f"LoraConfig: lora_alpha = {alpha!r} is no number, or no effect; 2 r is usual"
                )
        dropout = self.lora_dropout
        if isinstance(dropout, bool) or not isinstance(dropout, int | float) or not 0 <= dropout < 1:
            raise ConfigError(
                f"LoraConfig: lora_dropout = {self.lora_dropout!r} is not in [0, 1); 0.05 is usual"
            )

    def rank(self, module: str) -> int:
        """Give the rows of A in a layer."""
        return int(_of(dict(self.rank_pattern), module, self.r))

    def scale(self, module: str) -> float:
        """Give the factor of B A in a layer."""
        rank = self.rank(module)
        alpha = _of(dict(self.alpha_pattern), module, self.lora_alpha)
        return float(alpha) / (math.sqrt(rank) if self.use_rslora else rank)

    def to_peft(self) -> dict[str, Any]:
        """Give the content of `adapter_config.json`."""
        return {
            "alpha_pattern": dict(self.alpha_pattern),
            "base_model_name_or_path": self.base or None,
            "bias": "none",
            "fan_in_fan_out": False,
            "inference_mode": True,
            "init_lora_weights": True,
            "lora_alpha": self.lora_alpha,
            "lora_dropout": self.lora_dropout,
            "modules_to_save": None,
            "peft_type": "LORA",
            "r": self.r,
            "rank_pattern": dict(self.rank_pattern),
            "target_modules": sorted(self.target_modules),
            "task_type": "CAUSAL_LM",
            "use_dora": self.use_dora,
            "use_rslora": self.use_rslora,
        }

    @classmethod
    def from_peft(cls, values: Any, place: str) -> "LoraConfig":
        """Read the content of an `adapter_config.json`; ConfigError, with `place`, for what is not computed here."""
        if not isinstance(values, Mapping):
            raise ConfigError(
                f"{place}: holds {type(values).__name__}, not a JSON object; is it an adapter's?"
            )
        for name, allowed in _FIXED.items():
            if values.get(name, allowed[0]) not in allowed:
                raise ConfigError(
                    f"{place}: {name} = {values[name]!r} is not in this version; only {allowed[0]!r} is"
                )
        began = str(values.get("init_lora_weights"))
        if began.lower().startswith(_CHANGE_BASE):
            raise ConfigError(
                f"{place}: init_lora_weights = {began!r} changed the base that the adapter lies over; convert it with "
                "peft (save_pretrained, path_initial_model_for_weight_conversion), or merge it there"
            )
        targets = values.get("target_modules") or []
        targets = [targets] if isinstance(targets, str) else targets
        try:
            return cls(
                r=values.get("r", 8),
                lora_alpha=values.get("lora_alpha", 8),
                lora_dropout=values.get("lora_dropout", 0.0),
                target_modules=tuple(map(str, targets)),
                use_rslora=bool(values.get("use_rslora", False)),
                use_dora=bool(values.get("use_dora", False)),
                rank_pattern=tuple((values.get("rank_pattern") or {}).items()),
                alpha_pattern=tuple((values.get("alpha_pattern") or {}).items()),
                base=str(values.get("base_model_name_or_path") or ""),
            )
        except (ConfigError, TypeError, AttributeError) as error:
            raise ConfigError(f"{place}: {error}") from None


def is_end(end: str, module: str) -> bool:
    """Tell whether a layer's name is `end`, or ends with it from a dot on.

    >>> is_end("q_proj", "model.layers.0.self_attn.q_proj"), is_end("proj", "model.layers.0.self_attn.q_proj")
    (True, False)
    """
    return f".{module}".endswith(f".{end}")


def is_turned(module: str) -> bool:
    """Tell whether a layer's weight is stored (in, out), as GPT-2 stores those of its blocks; all others are (out, in).

    >>> is_turned("transformer.h.0.attn.c_attn"), is_turned("lm_head"), is_turned("model.layers.0.mlp.up_proj")
    (True, False, False)
    """
    return module.startswith("transformer.h.")


def _of(pattern: Mapping[str, Any], module: str, default: Any) -> Any:
    r"""Find what a pattern has for a layer, as PEFT does: by its whole name, an end of it, or what matches either.

    >>> _of({"mlp.c_fc": 1, r"h\.[02]\..*": 2}, "transformer.h.2.attn.c_attn", 3)
    2
    """
    return next((value for key, value in pattern.items() if re.match(rf"(.*\.)?({key})$", module)), default)


def _check_key(key: Any) -> None:
    """Refuse a key of a pattern that is no regular expression, or one that some name could be compared with for hours.

    That takes a repeated group, or many choices.
    """
    if not isinstance(key, str):
        raise ConfigError(f"LoraConfig: a pattern has the key {key!r}; give names of layers, or their ends")
    shown = key if len(key) <= _LONGEST_KEY else f"{key[:60]}…"
    # What is behind a backslash or in brackets stands for one character and is no choice.
    plain = re.sub(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", "x", key, flags=re.DOTALL)
    choices = len(re.findall(r"[*+?{(]", plain))
    if len(key) > _LONGEST_KEY or choices > _MOST_CHOICES or re.search(r"\)[*+?{]", plain):
        raise ConfigError(
            f"LoraConfig: the key {shown!r} of a pattern could take hours to compare; give at most {_LONGEST_KEY} "
            f"characters, at most {_MOST_CHOICES} of * + ? {{ ( and no repeated group, or the names of the layers"
        )
    try:
        re.compile(rf"(.*\.)?({key})$")
    except (re.error, OverflowError, RecursionError) as error:
        raise ConfigError(
            f"LoraConfig: the key {shown!r} of a pattern is no regular expression ({error}); put a backslash before "
            "what is meant as it stands"
        ) from None

"""`GenerationConfig`: how the next token is chosen. Names are Hugging Face's."""

import json
import secrets
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import BeforeValidator, Field

from subgpt.settings import Settings

SAMPLING = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")
MODEL_SAYS = (*SAMPLING, "do_sample", "eos_token_id")
"""What a model's own generation_config.json may say; it counts where the caller says nothing."""


def _as_tuple(value: Any) -> Any:
    """Take one stop text or id for a sequence of one."""
    if value is None:
        return ()
    return (
        (value,) if isinstance(value, str | int) else tuple(value) if isinstance(value, Sequence) else value
    )


Stops: TypeAlias = Annotated[Sequence[Annotated[str, Field(min_length=1)]], BeforeValidator(_as_tuple)]
StopIds: TypeAlias = Annotated[Sequence[Annotated[int, Field(ge=0, lt=1 << 32)]], BeforeValidator(_as_tuple)]


class GenerationConfig(Settings):
    """Options of `generate` and `stream`; a value out of range raises ConfigError.

    In order of use: repetition_penalty, temperature, top_k, top_p, min_p. A temperature of 0, or
    do_sample=False, takes the most probable token each time. Without a seed every call draws its own. token_healing
    needs the tokenizer: it counts in `generate` and `stream`, for prompts of subwords.

    >>> GenerationConfig(temperature=-1)
    Traceback (most recent call last):
    subgpt.errors.ConfigError: GenerationConfig: temperature = -1: input should be greater than or equal to 0
    """

    ALIASES: ClassVar[dict[str, str]] = {"stop_strings": "stop", "max_tokens": "max_new_tokens"}

    max_new_tokens: int = Field(default=200, ge=0, lt=1 << 31, description="tokens to append at most")
    do_sample: bool = Field(default=True, description="False: always the most probable token")
    temperature: float = Field(default=1.0, ge=0, description="0: greedy; below 1: safer; above: wilder")
    top_k: int = Field(default=0, ge=0, lt=1 << 32, description="keep the k most probable tokens; 0: all")
    top_p: float = Field(
        default=1.0, gt=0, le=1, description="keep the fewest tokens whose probabilities reach p"
    )
    min_p: float = Field(
        default=0.0, ge=0, le=1, description="drop tokens below this share of the best one's probability"
    )
    repetition_penalty: float = Field(
        default=1.0, gt=0, description="above 1: tokens seen already become less probable"
    )
    stop: Stops = Field(default=(), description="texts that end the output; not part of it")
    eos_token_id: StopIds = Field(
        default=(), description="ids that end the output, beside the tokenizer's end of text"
    )
    ignore_eos: bool = Field(default=False, description="go on past the end of text")
    errors: Literal["replace", "strict"] = Field(
        default="replace", description="prompt characters the tokenizer does not know: <unk> or refused"
    )
    token_healing: bool = Field(
        default=True, description="let the prompt's last token be a longer one that begins with it"
    )
    seed: int | None = Field(default=None, ge=0, lt=1 << 64, description="same seed, same text")

    @property
    def eos_ids(self) -> list[int]:
        """`eos_token_id` as a list."""
        return list(self.eos_token_id)

    def to_native(self) -> str:
        """Write the JSON that the native sampler reads, with a seed drawn if none is set."""
        options: dict[str, Any] = {name: getattr(self, name) for name in SAMPLING}
        if not self.do_sample:
            options["temperature"] = 0.0
        options["seed"] = secrets.randbits(63) if self.seed is None else self.seed
        return json.dumps(options)

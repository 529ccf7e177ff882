"""`GenerationConfig`: how the next token is chosen. Names are Hugging Face's."""

import json
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import BeforeValidator, Field, model_validator

from subgpt.settings import Settings

if TYPE_CHECKING:
    from subgpt.tokenizer import Tokenizer

DRAWING = ("temperature", "top_k", "top_p", "min_p", "typical_p")
"""Rules that narrow or bend a distribution that is drawn from; without a draw they mean nothing."""
SAMPLING = (
    *DRAWING,
    "repetition_penalty",
    "frequency_penalty",
    "presence_penalty",
    "no_repeat_ngram_size",
    "logit_bias",
    "bad_words_ids",
    "min_new_tokens",
)
"""All rules that shape the distribution of the next token."""
TYPED = tuple(name for name in SAMPLING if name not in ("logit_bias", "bad_words_ids"))
"""Those of them that one word or number says, as on a command line."""
STRUCTURE = ("regex", "json_schema", "grammar")
"""What a text as a whole can be held to; one at a time."""
MODEL_SAYS = (
    *DRAWING,
    "repetition_penalty",
    "no_repeat_ngram_size",
    "bad_words_ids",
    "min_new_tokens",
    "do_sample",
    "eos_token_id",
)
"""What a model's own generation_config.json may say; it counts where the caller says nothing."""


def _as_tuple(value: Any) -> Any:
    """Take one stop text or id for a sequence of one."""
    if value is None:
        return ()
    return (
        (value,) if isinstance(value, str | int) else tuple(value) if isinstance(value, Sequence) else value
    )


Id: TypeAlias = Annotated[int, Field(ge=0, lt=1 << 32)]
Texts: TypeAlias = Annotated[Sequence[Annotated[str, Field(min_length=1)]], BeforeValidator(_as_tuple)]
StopIds: TypeAlias = Annotated[Sequence[Id], BeforeValidator(_as_tuple)]
IdSequences: TypeAlias = Annotated[
    Sequence[Annotated[Sequence[Id], Field(min_length=1)]], BeforeValidator(_as_tuple)
]


class GenerationConfig(Settings):
    """Options of `generate`, `stream` and `complete`; a value out of range raises ConfigError.

    In order of use: logit_bias, frequency_penalty and presence_penalty, repetition_penalty,
    no_repeat_ngram_size, bad_words, min_new_tokens, regex, json_schema or grammar, temperature, top_k, top_p,
    min_p, typical_p. A temperature of 0, or do_sample=False, takes the most probable token each time.
    Without a seed every call draws its own. token_healing
    needs the tokenizer: it counts in `generate` and `stream`, for prompts of subwords.

    >>> GenerationConfig(temperature=-1)
    Traceback (most recent call last):
    subgpt.errors.ConfigError: GenerationConfig: temperature = -1: input should be greater than or equal to 0
    """

    ALIASES: ClassVar[dict[str, str]] = {
        "stop_strings": "stop",
        "max_tokens": "max_new_tokens",
        "n": "num_return_sequences",
    }

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
    typical_p: float = Field(
        default=1.0, gt=0, le=1, description="keep tokens about as surprising as expected, until they reach p"
    )
    repetition_penalty: float = Field(
        default=1.0, gt=0, description="above 1: tokens seen already become less probable"
    )
    frequency_penalty: float = Field(
        default=0.0, description="taken from a token's logit for each time it was seen"
    )
    presence_penalty: float = Field(default=0.0, description="taken from the logits of tokens seen already")
    no_repeat_ngram_size: int = Field(
        default=0, ge=0, lt=1 << 32, description="no run of so many tokens comes twice; 0: any may"
    )
    logit_bias: dict[Id, float] = Field(
        default_factory=dict, description="added to the logits of these ids; -100 all but bans one"
    )
    bad_words: Texts = Field(default=(), description="texts never written, as the tokenizer cuts them")
    bad_words_ids: IdSequences = Field(default=(), description="sequences of ids that are never written")
    min_new_tokens: int = Field(
        default=0, ge=0, lt=1 << 31, description="tokens to append before the text may end"
    )
    stop: Texts = Field(default=(), description="texts that end the output; not part of it")
    eos_token_id: StopIds = Field(
        default=(), description="ids that end the output, beside the tokenizer's end of text"
    )
    ignore_eos: bool = Field(default=False, description="go on past the end of text")
    regex: str | None = Field(default=None, description="regular expression that the whole output matches")
    json_schema: str | dict[str, Any] | None = Field(
        default=None, description="JSON schema of the output, which is JSON"
    )
    grammar: str | None = Field(default=None, description="grammar of the output, in Lark's syntax or GBNF")
    num_beams: int = Field(
        default=1, ge=1, lt=1 << 16, description="texts to follow at once; above 1: beam search, no draws"
    )
    length_penalty: float = Field(
        default=1.0, ge=-32, le=32, description="a beam's score is its log probability / length ** this"
    )
    early_stopping: bool | Literal["never"] = Field(
        default=False, description="end a beam search as soon as it has num_beams texts"
    )
    num_return_sequences: int = Field(default=1, ge=1, lt=1 << 16, description="texts to give back")
    errors: Literal["replace", "strict"] = Field(
        default="replace", description="prompt characters the tokenizer does not know: <unk> or refused"
    )
    parse_special: bool = Field(
        default=True, description="names of special tokens in the prompt are these tokens; False: plain text"
    )
    token_healing: bool = Field(
        default=True, description="let the prompt's last token be a longer one that begins with it"
    )
    prompt_lookup_num_tokens: int = Field(
        default=0,
        ge=0,
        le=64,
        description="guess so many tokens by what the text has written before; 0: none",
    )
    max_matching_ngram_size: int = Field(
        default=2, ge=1, lt=1 << 16, description="tokens that are looked up together at most"
    )
    num_assistant_tokens: int = Field(
        default=5, ge=1, le=64, description="tokens that an assistant model guesses at a time"
    )
    seed: int | None = Field(default=None, ge=0, lt=1 << 64, description="same seed, same text")

    @model_validator(mode="after")
    def _one_structure(self) -> "GenerationConfig":
        given = [name for name in STRUCTURE if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} both say what the output is; give one of them")
        return self

    @property
    def eos_ids(self) -> list[int]:
        """`eos_token_id` as a list."""
        return list(self.eos_token_id)

    @property
    def heals(self) -> bool:
        """Whether the last token of a prompt may become another: not beside rules for each new token or the text."""
        bound = (
            self.structure or self.bad_words or self.bad_words_ids or self.logit_bias or self.min_new_tokens
        )
        return self.token_healing and self.num_beams == 1 and not bound

    @property
    def structure(self) -> str | None:
        """Which of regex, json_schema and grammar is given."""
        return next((name for name in STRUCTURE if getattr(self, name) is not None), None)

    @property
    def is_greedy(self) -> bool:
        """Whether the most probable token is taken each time."""
        return not self.do_sample or self.temperature == 0

    def to_native(self, tokenizer: "Tokenizer | None" = None) -> str:
        """Write the JSON that the native sampler reads, with a seed drawn if none is set.

        `bad_words`, and the end of text that `min_new_tokens` waits with, need the tokenizer.
        """
        options: dict[str, Any] = {name: getattr(self, name) for name in SAMPLING}
        options["bad_words_ids"] = [list(ids) for ids in self.bad_words_ids]
        options["eos_token_id"] = self.eos_ids
        if tokenizer is not None:
            # Help texts need this module, but not the NumPy that comes with the other.
            from subgpt.generation.prompt import bad_words_ids, end_ids

            options["bad_words_ids"] += bad_words_ids(tokenizer, self.bad_words)
            options["eos_token_id"] = end_ids(tokenizer, self)
        if not self.do_sample:
            options["temperature"] = 0.0
        options["seed"] = secrets.randbits(63) if self.seed is None else self.seed
        return json.dumps(options)

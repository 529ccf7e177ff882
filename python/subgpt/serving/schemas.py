"""What requests may ask for. Options that would change nothing here are let be; others that are unknown are refused."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from subgpt.serving.errors import ApiError
from subgpt.serving.fields import LONGEST_FORM, Biases, Ids, Items, Prompt, Schema, StopText
from subgpt.spelling import did_you_mean


class Part(BaseModel):
    """A part of an object in a request: its types are meant, and nothing else is in it."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown(cls, values: Any) -> Any:
        known = [field.alias or name for name, field in cls.model_fields.items()]
        unknown = (
            next((name for name in values if name not in known), None) if isinstance(values, dict) else None
        )
        if unknown is not None:
            name = unknown[:100]
            hint = did_you_mean(name, known)
            raise PydanticCustomError(
                "unknown_option", "there is no option '{name}'; {hint}", {"name": name, "hint": hint}
            )
        return values


class ModelRequest(Part):
    """A request to a model; without a name it is to the only one."""

    model: str | None = None


class StreamOptions(Part):
    """How a stream ends; obfuscation would hide how long pieces are, which nobody between reads here."""

    include_usage: bool = False
    include_obfuscation: bool = False


class WritingRequest(ModelRequest):
    """What requests for texts have in common: how the next token is chosen, how many texts, and how they come."""

    PLAIN: ClassVar[tuple[str, ...]] = (
        "temperature", "top_p", "top_k", "min_p", "typical_p", "presence_penalty", "frequency_penalty",
        "repetition_penalty", "no_repeat_ngram_size", "logit_bias", "stop", "ignore_eos", "regex", "json_schema",
        "grammar",
    )  # fmt: skip

    n: int = Field(default=1, ge=1)
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(default=None, ge=0)
    min_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    typical_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    no_repeat_ngram_size: int | None = None
    logit_bias: Biases | None = None
    stop: StopText | Annotated[list[StopText], Field(max_length=16)] | None = None
    ignore_eos: bool | None = None
    seed: int | None = Field(default=None, ge=-(1 << 63), lt=1 << 64)
    regex: str | None = Field(default=None, max_length=LONGEST_FORM)
    json_schema: Schema | None = None
    grammar: str | None = Field(default=None, max_length=LONGEST_FORM)

    def options(self, max_new_tokens: int) -> dict[str, Any]:
        """Give what was asked for as options of `GenerationConfig`, without a seed: texts have one each."""
        said = {name: getattr(self, name) for name in self.PLAIN}
        said |= {"min_new_tokens": self.min_tokens, "max_new_tokens": max_new_tokens}
        return {name: value for name, value in said.items() if value is not None}

    def seed_of(self, number: int) -> int | None:
        """Give the seed of text `number` of a prompt; negative ones count from 2**64 down."""
        return None if self.seed is None else (self.seed + number) % (1 << 64)

    @property
    def wants_usage(self) -> bool:
        """Whether a stream says at its end how many tokens there were."""
        return self.stream_options is not None and self.stream_options.include_usage


class CompletionRequest(WritingRequest):
    """`/v1/completions`."""

    prompt: Prompt = ""
    best_of: int | None = None
    echo: bool = False
    logprobs: int | None = Field(default=None, ge=0)
    token_healing: bool = False
    parse_special: bool = True

    @property
    def prompts(self) -> list[str | list[int]]:
        """The prompts, each a text or ids."""
        return as_prompts(self.prompt)


def as_prompts(given: str | list[Any]) -> list[str | list[int]]:
    """List the texts or lists of ids in a `prompt` or an `input`."""
    if isinstance(given, str) or not given or isinstance(given[0], int):
        return [given]
    return list(given)


class TextPart(Part):
    """A part of what a message says."""

    type: Literal["text"]
    text: str


class ChatMessage(Part):
    """A message of a conversation; names of speakers are let be."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | Items[TextPart]
    name: str | None = None

    def as_plain(self) -> dict[str, str]:
        """Give it as `subgpt.chat` takes it."""
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return {"role": "system" if self.role == "developer" else self.role, "content": text}


class NamedSchema(Part):
    """A JSON schema as `response_format` has it."""

    name: str = ""
    description: str = ""
    strict: bool = False
    schema_: Schema = Field(alias="schema")


class ResponseFormat(Part):
    """What an answer must be."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: NamedSchema | None = None


class ChatRequest(WritingRequest):
    """`/v1/chat/completions`."""

    messages: Items[ChatMessage] = Field(min_length=1)
    max_completion_tokens: int | None = Field(default=None, ge=0)
    logprobs: bool = False
    top_logprobs: int | None = Field(default=None, ge=0)
    response_format: ResponseFormat | None = None
    modalities: Items[Literal["text"]] | None = None

    def options(self, max_new_tokens: int) -> dict[str, Any]:
        """Give what was asked for; a response format is a JSON schema."""
        said = super().options(max_new_tokens)
        form = self.response_format
        if form is None or form.type == "text":
            return said
        if form.type == "json_schema" and form.json_schema is None:
            raise ApiError(400, "response_format: json_schema is missing", param="response_format")
        schema = {"type": "object"} if form.json_schema is None else form.json_schema.schema_
        return {**said, "json_schema": schema}


class EmbeddingRequest(ModelRequest):
    """`/v1/embeddings`."""

    input: Prompt
    encoding_format: Literal["float", "base64"] = "float"


class TokenizeRequest(ModelRequest):
    """`/tokenize`."""

    prompt: str
    add_special_tokens: bool = True
    parse_special: bool = True


class DetokenizeRequest(ModelRequest):
    """`/detokenize`."""

    tokens: Ids

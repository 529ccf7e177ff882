"""`stream`: text as it is written, never half a character, never the beginning of a stop text."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from subgpt.errors import ConfigError
from subgpt.generation.beams import check_beams
from subgpt.generation.beginning import begin
from subgpt.generation.config import DRAWING, GenerationConfig
from subgpt.generation.speculation import check_assistant
from subgpt.generation.writing import Writing

if TYPE_CHECKING:
    from subgpt.model.gpt import GPT
    from subgpt.tokenizer import Tokenizer


def stream(
    model: "GPT",
    tokenizer: "Tokenizer",
    prompt: str,
    *,
    config: GenerationConfig | None = None,
    assistant_model: "GPT | None" = None,
    **options: Any,
) -> Iterator[str]:
    """Yield what the model writes after `prompt`, in pieces: joined, `generate`'s text without the prompt.

    options: those of `GenerationConfig`, over `config`. assistant_model: as in `generate`. A prompt that ends inside
    of a token is healed, as by `generate`. The first error of an option or the prompt comes at once, not with the first
    piece.
    """
    settings = merge_options(model, config, options)
    refuse_beams(settings, "stream", "call subgpt.generate")
    check_assistant(model, assistant_model, settings, "stream")
    start = begin(model, tokenizer, prompt, settings)
    return iter(Writing(start, tokenizer, settings, assistant=assistant_model))


def merge_options(model: "GPT", config: GenerationConfig | None, options: dict[str, Any]) -> GenerationConfig:
    """Put `options` over what `config` sets, and that over what the model's own files say.

    Who gives a temperature or another rule of drawing wants to draw, whatever the files say; who asks for beams
    does not; who ignores the end of text ignores the ids that the files say end it.
    """
    settings = GenerationConfig(**options) if config is None else config.replace(**options)
    said = dict(model.generation_config)
    if settings.ignore_eos:
        said.pop("eos_token_id", None)
    if settings.num_beams > 1:
        check_beams(settings)
        others = {name: value for name, value in said.items() if name not in DRAWING}
        return settings.with_defaults(**(others | {"do_sample": False}))
    if settings.model_fields_set & set(DRAWING):
        settings = settings.with_defaults(do_sample=True)
    return settings.with_defaults(**said)


def refuse_several(settings: GenerationConfig, verb: str) -> None:
    """Raise ConfigError, with `verb` in front, if more texts are asked for than one."""
    if settings.num_return_sequences > 1:
        raise ConfigError(
            f"{verb}: num_return_sequences = {settings.num_return_sequences}, but one text comes back; "
            "call subgpt.complete"
        )


def refuse_beams(settings: GenerationConfig, verb: str, remedy: str) -> None:
    """Raise ConfigError, with `verb` in front, if what is asked for cannot come piece by piece."""
    refuse_several(settings, verb)
    if settings.num_beams > 1:
        raise ConfigError(f"{verb}: num_beams: which beam is the best is known at the end alone; {remedy}")

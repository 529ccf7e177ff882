"""`stream`: text as it is written, never half a character, never the beginning of a stop text."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from subgpt import _core
from subgpt.errors import ConfigError
from subgpt.generation.beams import check_beams
from subgpt.generation.config import DRAWING, GenerationConfig
from subgpt.generation.prompt import prompt_ids
from subgpt.generation.structured import anchor
from subgpt.generation.writing import Writing
from subgpt.model.fit import check_fit

if TYPE_CHECKING:
    from subgpt.model.gpt import GPT
    from subgpt.tokenizer import Tokenizer
    from subgpt.tokenizer.results import DecodeStream


def stream(
    model: "GPT",
    tokenizer: "Tokenizer",
    prompt: str,
    *,
    config: GenerationConfig | None = None,
    **options: Any,
) -> Iterator[str]:
    """Yield what the model writes after `prompt`, in pieces: joined, `generate`'s text without the prompt.

    options: those of `GenerationConfig`, over `config`. The first error of an option or the prompt comes at
    once, not with the first piece.
    """
    settings = merge_options(model, config, options)
    refuse_several(settings, "stream")
    if settings.num_beams > 1:
        raise ConfigError(
            "stream: num_beams: which beam is the best is known at the end alone; call subgpt.generate"
        )
    session, decoder = begin(model, tokenizer, prompt, settings)
    return iter(Writing(session, decoder, tokenizer, settings))


def begin(
    model: "GPT", tokenizer: "Tokenizer", prompt: str, settings: GenerationConfig
) -> "tuple[_core.Session, DecodeStream]":
    """Start a text with `prompt`, after looking whether tokenizer and model belong together.

    Gives what goes on with it, and what makes text of the ids that follow: it has decoded the prompt, because some
    tokenizers leave the space out that the first word of a text, and no other, begins with.
    """
    check_fit(model, tokenizer, "generate")
    session = model.native.session()
    session.append(prompt_ids(tokenizer, prompt, settings.errors))
    return session, decoder_after(tokenizer, prompt, settings)


def decoder_after(tokenizer: "Tokenizer", prompt: str, settings: GenerationConfig) -> "DecodeStream":
    """Make the decoder of what follows `prompt`."""
    decoder = tokenizer.decode_stream()
    if prompt:
        decoder.push_all(prompt_ids(tokenizer, prompt, settings.errors)[len(tokenizer.template[0]) :])
    elif settings.structure is not None:
        decoder.push(anchor(tokenizer))  # a grammar knows tokens as they are in the middle of a text
    return decoder


def merge_options(model: "GPT", config: GenerationConfig | None, options: dict[str, Any]) -> GenerationConfig:
    """Put `options` over what `config` sets, and that over what the model's own files say.

    Who gives a temperature or another rule of drawing wants to draw, whatever the files say; who asks for beams
    does not.
    """
    settings = GenerationConfig(**options) if config is None else config.replace(**options)
    if settings.num_beams > 1:
        check_beams(settings)
        said = model.generation_config.items()
        others = {name: value for name, value in said if name not in DRAWING}
        return settings.with_defaults(**(others | {"do_sample": False}))
    if settings.model_fields_set & set(DRAWING):
        settings = settings.with_defaults(do_sample=True)
    return settings.with_defaults(**model.generation_config)


def refuse_several(settings: GenerationConfig, verb: str) -> None:
    """Raise ConfigError, with `verb` in front, if more texts are asked for than one."""
    if settings.num_return_sequences > 1:
        raise ConfigError(
            f"{verb}: num_return_sequences = {settings.num_return_sequences}, but one text comes back; "
            "call subgpt.complete"
        )

"""`speculate`: let a session guess ahead, so that several tokens cost one pass over the weights.

The text stays what it is, token for token: a guess is used only where the sampler draws it anyway (see
`rust/core/src/model/speculation.rs`).
"""

from typing import TYPE_CHECKING

from subgpt import _core
from subgpt.errors import ConfigError

if TYPE_CHECKING:
    from subgpt.generation.config import GenerationConfig
    from subgpt.model.gpt import GPT


def check_assistant(model: "GPT", assistant: "GPT | None", settings: "GenerationConfig", where: str) -> None:
    """Raise ConfigError, with `where` in front, if a model cannot guess what another writes."""
    if assistant is None:
        return
    if settings.num_beams > 1:
        raise ConfigError(
            f"{where}: assistant_model guesses what follows one text, and num_beams = {settings.num_beams} goes on "
            "with several; leave one of them out"
        )
    if settings.prompt_lookup_num_tokens:
        raise ConfigError(
            f"{where}: assistant_model and prompt_lookup_num_tokens = {settings.prompt_lookup_num_tokens} both "
            "guess what follows; give one of them"
        )
    ours, others = model.config.vocab_size, assistant.config.vocab_size
    if ours != others:
        raise ConfigError(
            f"{where}: assistant_model has a vocabulary of {others} tokens, the model one of {ours}; an assistant "
            "needs the same tokenizer"
        )


def speculate(session: "_core.Session", settings: "GenerationConfig", assistant: "GPT | None") -> None:
    """Let `session` guess as the settings say, with `assistant` if there is one."""
    if assistant is not None:
        session.speculate(settings.num_assistant_tokens, draft=assistant.native)
    else:
        session.speculate(settings.prompt_lookup_num_tokens, settings.max_matching_ngram_size)

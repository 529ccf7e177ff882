"""`generate`: a prompt in, a text out. `sampling_probs`: the distribution that the sampler draws from."""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from subgpt import _core
from subgpt.errors import ConfigError
from subgpt.generation.beginning import begin
from subgpt.generation.complete import complete
from subgpt.generation.config import SAMPLING, GenerationConfig
from subgpt.generation.prompt import end_ids
from subgpt.generation.speculation import check_assistant, speculate
from subgpt.generation.stream import merge_options, refuse_several, stream
from subgpt.spelling import did_you_mean

if TYPE_CHECKING:
    from subgpt.model.gpt import GPT, Ids
    from subgpt.tokenizer import Tokenizer


def generate(
    model: "GPT",
    tokenizer: "Tokenizer",
    prompt: str,
    *,
    config: GenerationConfig | None = None,
    return_prompt: bool = True,
    assistant_model: "GPT | None" = None,
    **options: Any,
) -> str:
    """Give the prompt and what the model writes after it, or with `return_prompt=False` the latter alone.

    options: those of `GenerationConfig`, over `config`: max_new_tokens, temperature (0: greedy), top_k,
    top_p, repetition_penalty, stop, seed, json_schema, num_beams and so on. assistant_model: a smaller model with the
    same tokenizer that guesses what comes; guesses, also those of prompt_lookup_num_tokens, make the text no other, but
    several tokens cost one pass where they are right. The text ends at the tokenizer's
    end of text, a stop text or max_new_tokens. A text longer than the model's block goes on with a sliding
    window. A prompt that ends inside of a token goes on as if it did not, unless token_healing=False: see
    `subgpt.generation.healing`.
    """
    settings = merge_options(model, config, options)
    refuse_several(settings, "generate")
    check_assistant(model, assistant_model, settings, "generate")
    if settings.num_beams > 1:
        text = complete(model, tokenizer, prompt, config=settings)[0].text
    elif settings.stop or settings.structure is not None:
        text = "".join(stream(model, tokenizer, prompt, config=settings, assistant_model=assistant_model))
    else:
        text = _generate_at_once(model, tokenizer, prompt, settings, assistant_model)
    return prompt + text if return_prompt else text


def _generate_at_once(
    model: "GPT", tokenizer: "Tokenizer", prompt: str, settings: GenerationConfig, assistant: "GPT | None"
) -> str:
    """Make the whole text in one native call."""
    start = begin(model, tokenizer, prompt, settings)
    speculate(start.session, settings, assistant)
    left, ends = settings.max_new_tokens - start.written, end_ids(tokenizer, settings)
    new = start.session.run(left, settings.to_native(tokenizer), ends)
    return start.text + start.decoder.push_all(new[new < tokenizer.vocab_size]) + start.decoder.flush()


def sampling_probs(
    logits: npt.ArrayLike, *, context: "Ids | None" = None, new_tokens: int = 0, **options: Any
) -> npt.NDArray[np.float64]:
    """Give the distribution over the next token after all sampling rules, exactly as the sampler uses it.

    logits: (vocab_size,). context: ids so far, for the penalties, no_repeat_ngram_size and bad_words_ids;
    new_tokens: how many of them were drawn, for min_new_tokens. options: the rules of `GenerationConfig` in
    ids, do_sample and eos_token_id. Returns float64 (vocab_size,), summing to 1; one token has 1 at
    temperature 0. InvalidValueError if the rules leave no token.

    >>> sampling_probs(np.log([0.5, 0.3, 0.2]), top_k=2).round(3).tolist()
    [0.625, 0.375, 0.0]
    """
    known = [*SAMPLING, "do_sample", "eos_token_id"]
    for name in options:
        if name not in known:
            raise ConfigError(f"sampling_probs: there is no option {name!r}; {did_you_mean(name, known)}")
    settings = GenerationConfig(seed=0, **options)
    row = np.ascontiguousarray(logits, dtype=np.float32)
    return _core.sampling_probs(row, context, new_tokens, settings.to_native())

"""`SubgptLM`: what lm-evaluation-harness asks of a model, answered by one of ours.

Contexts are cut, and windows laid, as the harness's own `hf` model does it: the same weights get the same scores.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from subgpt.data.chat import ChatTemplate, choose_template
from subgpt.errors import ConfigError, MissingExtraError
from subgpt.evaluation.continuations import rolling_logprob, score_continuations
from subgpt.generation.prompt import prompt_ids
from subgpt.model.fit import check_fit
from subgpt.spelling import did_you_mean

try:
    import lm_eval.models  # noqa: F401  the harness's own, which it looks for only where no other has come first
    from lm_eval.api.model import TemplateLM
    from lm_eval.api.registry import register_model
    from tqdm import tqdm
except ImportError as error:
    raise MissingExtraError(
        f'models for lm-eval need lm-eval 0.4.10 or newer ({error}): pip install "subgpt[eval]"'
    ) from None

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

    from subgpt.generation.engine import Engine
    from subgpt.generation.job import Job
    from subgpt.model.gpt import GPT
    from subgpt.tokenizer import Tokenizer

# Names of a text's length, in the order in which they count.
_LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
_ARGUMENTS = (
    *("path", "model", "tokenizer", "dtype", "quantize"),
    *("max_length", "max_gen_toks", "batch_size", "seed"),
)
_TAKEN = ("device", "max_batch_size", "trust_remote_code")
"""What the harness passes on to every model, and means nothing here."""


@register_model("subgpt")
class SubgptLM(TemplateLM):  # type: ignore[misc]
    """A model of ours for the harness: `--model subgpt --model_args path=runs/base`.

    Args:
        path: What `subgpt.load` opens; `pretrained`, as the harness's other models call it, is taken, too.
        model: A model in memory, in place of a path.
        tokenizer: Its tokenizer; beside a path in place of the one there.
        dtype: As for `subgpt.load`.
        quantize: As for `subgpt.load`.
        max_length: Tokens that the model may see; its block_size if not given.
        max_gen_toks: Tokens of a text that a task does not limit.
        batch_size: Texts written at once; "auto" is 32.
        seed: For tasks that draw: text i of a call has the seed seed + i.
        others: What the harness passes on and means nothing here.

    Raises:
        ConfigError: An argument cannot be, or model and tokenizer do not belong together.

    """

    def __init__(
        self,
        path: str = "",
        *,
        model: "GPT | None" = None,
        tokenizer: "Tokenizer | None" = None,
        dtype: str = "float32",
        quantize: str | None = None,
        max_length: int | None = None,
        max_gen_toks: int = 256,
        batch_size: int | str = "auto",
        seed: int = 1234,
        **others: Any,
    ) -> None:
        super().__init__()
        path = str(path or others.pop("pretrained", ""))
        _check_others(others)
        if bool(path) == (model is not None):
            raise ConfigError("lm-eval: give one of path (model_args path=runs/base) and model")
        if model is None:
            from subgpt.checkpoint.load import load

            model, own = load(path, dtype=dtype, quantize=quantize)
            tokenizer = own if tokenizer is None else tokenizer
        if tokenizer is None:
            raise ConfigError(f"lm-eval: {path or 'the model'} has no tokenizer; give one beside the model")
        check_fit(model, tokenizer, "lm-eval")
        self._gpt, self._tok = model, tokenizer
        self._template = choose_template("auto", tokenizer, model.chat_template)
        self.max_length = _whole("max_length", max_length or model.config.block_size, model.config.block_size)
        self.max_gen_toks = _whole("max_gen_toks", max_gen_toks)
        self.batch_size = 32 if str(batch_size).startswith("auto") else _whole("batch_size", batch_size)
        self.seed = seed

    @property
    def eot_token_id(self) -> int | None:
        """The id that ends a document."""
        return self._tok.eot_id

    @property
    def prefix_token_id(self) -> int:
        """The id before a text that has nothing before it: what an empty prompt begins with."""
        return int(prompt_ids(self._tok, "")[-1])

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Encode a text as a prompt is: names of special tokens are special tokens, as chat templates need them.

        add_special_tokens: False leaves out what the tokenizer's template puts before every text.
        """
        if add_special_tokens is False or not string:
            return list(map(int, self._tok.encode(string, allowed_special="all")))
        return list(map(int, prompt_ids(self._tok, string)))

    def _loglikelihood_tokens(
        self,
        requests: Sequence[tuple[tuple[str, str] | None, list[int], list[int]]],
        disable_tqdm: bool = False,
        **_: Any,
    ) -> list[tuple[float, bool]]:
        """Score continuations: the logarithm of the probability, and whether each token is the most probable one."""
        answers: list[tuple[float, bool]] = [(0.0, False)] * len(requests)
        pairs = [(context, continuation) for _, context, continuation in requests]
        with tqdm(total=len(pairs), desc="subgpt: continuations", disable=disable_tqdm) as bar:
            for number, scored in score_continuations(self._gpt, pairs, self.max_length):
                answers[number] = (scored.logprob, scored.is_greedy)
                if (texts := requests[number][0]) is not None:
                    self.cache_hook.add_partial("loglikelihood", texts, answers[number])
                bar.update()
        return answers

    def loglikelihood_rolling(self, requests: "list[Instance]", disable_tqdm: bool = False) -> list[float]:
        """Give the logarithm of the probability of each text, of any length, after `prefix_token_id`."""
        found = []
        for request in tqdm(requests, desc="subgpt: texts", disable=disable_tqdm):
            ids = self.tok_encode(request.args[0])
            found.append(rolling_logprob(self._gpt, self.prefix_token_id, ids, self.max_length))
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, found[-1])
        return found

    def generate_until(self, requests: "list[Instance]", disable_tqdm: bool = False) -> list[str]:
        """Write on from each context up to the first of its `until`, the end of text, or its number of tokens.

        Options are those of `GenerationConfig`. A context is cut on the left to leave room for the text in the block;
        where the text alone has none, the window slides.
        """
        from subgpt.generation.engine import Engine

        texts = []
        with Engine(self._gpt, self._tok, max_batch=self.batch_size, max_waiting=len(requests)) as engine:
            jobs = [self._submit(engine, number, *request.args) for number, request in enumerate(requests)]
            for request, job in zip(
                tqdm(requests, desc="subgpt: writing", disable=disable_tqdm), jobs, strict=True
            ):
                texts.append(job.text())
                self.cache_hook.add_partial("generate_until", request.args, texts[-1])
        return texts

    def _submit(self, engine: "Engine", number: int, context: str, given: dict[str, Any]) -> "Job":
        options = dict(given)
        until = options.pop("until", None) or []
        lengths = [value for name in _LENGTHS if (value := options.pop(name, None)) is not None]
        length = int(lengths[0]) if lengths else self.max_gen_toks
        options.setdefault("temperature", 0.0)
        options.setdefault("seed", self.seed + number)
        ids = self.tok_encode(context) or [self.prefix_token_id]
        if (room := self.max_length - length) > 0:
            ids = ids[-room:]
        stop = [text for text in ([until] if isinstance(until, str) else until) if text]
        return engine.submit(ids, max_new_tokens=length, stop=stop, **options)

    @property
    def tokenizer_name(self) -> str:
        """What the harness's cache tells tokenizers and chat templates apart by."""
        return f"subgpt-{self._tok.fingerprint[:16]}"

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """Give the template that conversations are written by, for the harness's records."""
        return self._chosen().source if chat_template else None

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """Write a conversation as the model's template has it; without the prompt, up to the last message's words."""
        text = self._chosen().render(chat_history, add_generation_prompt)
        if add_generation_prompt:
            return text
        last = chat_history[-1]["content"].strip()
        return text[: text.rindex(last) + len(last)] if last in text else text

    def _chosen(self) -> ChatTemplate:
        if self._template is None:
            raise ConfigError("lm-eval: this model has no chat template; leave out apply_chat_template")
        return self._template

    def get_model_info(self) -> dict[str, Any]:
        """Say what was evaluated, for the harness's records."""
        gpt = self._gpt
        return {
            "model_num_parameters": gpt.num_params(),
            "model_dtype": gpt.quantization or gpt.dtype,
            "model_revision": gpt.name_or_path,
        }


def _check_others(others: dict[str, Any]) -> None:
    for name in others:
        if name not in _TAKEN:
            raise ConfigError(
                f"lm-eval: the model subgpt has no argument {name!r}; {did_you_mean(name, _ARGUMENTS)}"
            )


def _whole(name: str, value: int | str, most: int | None = None) -> int:
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = 0
    if number < 1 or (most is not None and number > most):
        raise ConfigError(
            f"lm-eval: {name} = {value!r}; give a whole number from 1 {f'to {most}' if most else 'on'}"
        )
    return number

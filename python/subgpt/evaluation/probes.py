"""Probes: questions that a model is asked, most probable token by most probable token, and what it got right.

A question is written and cut exactly as fine-tuning writes and cuts it, so that what is measured is what was trained.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import numpy.typing as npt

from subgpt.data.chat import choose_template
from subgpt.data.examples import evaluation_example_batches, fit_example, fit_examples
from subgpt.data.form import Form
from subgpt.data.loader import IGNORED
from subgpt.data.masking import TokenExample
from subgpt.errors import ConfigError, DataError
from subgpt.evaluation.matching import Match, number_in, same_number, same_text
from subgpt.evaluation.results import Miss, ProbeResult
from subgpt.generation.config import GenerationConfig
from subgpt.generation.prompt import end_ids
from subgpt.model.fit import check_fit
from subgpt.spelling import did_you_mean
from subgpt.training.data import fingerprint

if TYPE_CHECKING:
    from subgpt.data.chat import ChatTemplate
    from subgpt.data.instruct import Example, ExampleSource
    from subgpt.model.gpt import GPT
    from subgpt.tokenizer import Tokenizer

_KEPT_MISSES = 5
_LOGITS = 1 << 24
"""Logits held at once where tokens are foretold: 64 MiB."""


@dataclass(frozen=True, eq=False)
class Question:
    """What is asked, what is expected, and both as ids, cut to the block; the answer's are the trained ones."""

    text: str
    answer: str
    row: TokenExample

    @property
    def prompt(self) -> npt.NDArray[np.uint32]:
        """The ids that stand before the answer."""
        return self.row.ids[: int(np.argmax(self.row.trained))]


@dataclass(frozen=True)
class Probe:
    """Questions, how their answers are compared, and a line on what was cut."""

    questions: tuple[Question, ...]
    match: Match
    note: str

    @property
    def fingerprint(self) -> str:
        """Digits that depend on all that is asked and expected, and on how it is compared."""
        return f"{self.match}-{fingerprint([a for q in self.questions for a in (q.row.ids, q.row.trained)])}"

    def measure(self, model: "GPT", tokenizer: "Tokenizer") -> ProbeResult:
        """Ask `model` everything; gradients are not touched."""
        begin = time.monotonic()
        take = self._foretold if self.match == "tokens" else self._answered
        rights, totals, answers = zip(*take(model, tokenizer), strict=True)
        missed = [
            Miss(question.text, question.answer, answer)
            for question, right, total, answer in zip(self.questions, rights, totals, answers, strict=True)
            if right < total
        ]
        misses = tuple(missed[:_KEPT_MISSES])
        return ProbeResult(self.match, sum(rights), sum(totals), misses, time.monotonic() - begin)

    def _answered(self, model: "GPT", tokenizer: "Tokenizer") -> Iterator[tuple[int, int, str]]:
        """Yield for each question whether it was answered, one, and the answer."""
        same = same_number if self.match == "number" else same_text
        for question in self.questions:
            answer = _write_answer(model, tokenizer, question)
            yield int(same(answer, question.answer)), 1, answer

    def _foretold(self, model: "GPT", tokenizer: "Tokenizer") -> Iterator[tuple[int, int, str]]:
        """Yield for each question how many of the answer's tokens were foretold, of how many, and as what text."""
        rows = [question.row for question in self.questions]
        width = max(map(len, rows))
        size = max(1, min(16, _LOGITS // (width * model.config.vocab_size)))
        for ids, targets in evaluation_example_batches(rows, block_size=width, batch_size=size):
            guesses = model.forward(ids).argmax(-1)
            for guess, target in zip(guesses, targets, strict=True):
                counted = target != IGNORED
                text = tokenizer.decode(guess[counted & (guess < tokenizer.vocab_size)].astype(np.uint32))
                yield int((guess == target)[counted].sum()), int(counted.sum()), text


def probe(
    model: "GPT",
    tokenizer: "Tokenizer",
    source: "ExampleSource",
    *,
    match: Match = "exact",
    block_size: int | None = None,
    errors: Literal["replace", "strict"] = "strict",
    chat_template: "ChatTemplate | str" = "auto",
) -> ProbeResult:
    """Ask `model` the questions of `source`, and count what it answers as expected.

    source: rows as for `finetune`; of a conversation the last answer is asked for. match: "exact" compares texts but
    for case, white space and punctuation at the end; "number" the number after ``####``, else the last one; "tokens"
    counts the tokens of the expected answer that are the most probable ones after the expected ones before. An answer
    may be twice as long as the expected one and eight tokens more before it is cut, and has as many lines where the
    tokenizer has no end of text. block_size: to cut rows to, the model's if not given.

    Raises ConfigError if the tokenizer does not fit the model, or for rows longer than the model's; DataError or
    MissingFileError if the source cannot be used.
    """
    check_fit(model, tokenizer, "probe")
    form = Form(choose_template(chat_template, tokenizer, model.chat_template))
    width = model.config.block_size if block_size is None else block_size
    if not 1 <= width <= model.config.block_size:
        raise ConfigError(f"probe: block_size = {width}; give 1 to the model's {model.config.block_size}")
    return read_probe(source, tokenizer, form, block_size=width, match=match, errors=errors).measure(
        model, tokenizer
    )


def read_probe(
    source: "ExampleSource",
    tokenizer: "Tokenizer",
    form: Form,
    *,
    block_size: int,
    match: Match,
    errors: Literal["replace", "strict"],
) -> Probe:
    """Read the questions of `source`, written in `form`.

    Raises DataError for a question that is longer than the block, or an answer without the number that is compared.
    """
    if match not in get_args(Match):
        raise ConfigError(f"probe: match = {match!r}; {did_you_mean(match, get_args(Match))}")
    examples = form.read(source, errors)
    rows = replace(form, loss_on="last").tokenize(examples, tokenizer)
    for example, row in zip(examples, rows, strict=True):
        _check(example, row, block_size, match)
    questions = tuple(
        Question(_question(example), example.messages[-1].content, fit_example(row, block_size))
        for example, row in zip(examples, rows, strict=True)
    )
    return Probe(questions, match, fit_examples(rows, block_size, 1, 0).describe(block_size))


def _check(example: "Example", row: TokenExample, block_size: int, match: Match) -> None:
    asked = int(np.argmax(row.trained))
    if asked > block_size:
        raise DataError(
            f"{example.origin}: the question is {asked} tokens long and block_size is {block_size}, so the model would "
            "not see it whole; shorten it, or leave the row out of the probe"
        )
    if match == "number" and number_in(example.messages[-1].content) is None:
        raise DataError(
            f"{example.origin}: the answer has no number to compare; leave the row out of the probe, or compare texts "
            "(match='exact', --probe-match exact)"
        )


def _question(example: "Example") -> str:
    return example.messages[-2].content if len(example.messages) > 1 else ""


def _write_answer(model: "GPT", tokenizer: "Tokenizer", question: Question) -> str:
    """Let the model answer, at most eight tokens more than twice what is expected: it may use others for the same text.

    Not beyond the block, though, where it would lose sight of the question.
    """
    expected = int(question.row.trained.sum())
    inside = max(expected, model.config.block_size + 1 - len(question.prompt))
    room = min(2 * expected + 8, inside)
    options = GenerationConfig(temperature=0, seed=0).with_defaults(
        eos_token_id=model.generation_config.get("eos_token_id", ())
    )
    last = int(question.row.ids[question.row.trained][-1])
    own_end = {last} & set(
        tokenizer.special_tokens.values()
    )  # a chat template may have another than the tokenizer
    session = model.native.session()
    session.append(question.prompt)
    new = session.run(room, options.to_native(), [*end_ids(tokenizer, options), *own_end])
    text = tokenizer.decode(new[new < tokenizer.vocab_size])
    if own_end or tokenizer.eot_id is not None:
        return text
    lines = text.split("\n")  # fine-tuning ends answers with a newline where there is no end of text
    return "\n".join(lines[: question.answer.count("\n") + 1])

"""The whole life of a small GPT, in reading order: corpus, tokenizer, pretraining, fine-tuning, report."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from subgpt.data.corpus import load_corpus
from subgpt.evaluation.measure import Evaluation, HeldOut, measure
from subgpt.finetuning.finetune import finetune
from subgpt.model.config import GPTConfig
from subgpt.model.gpt import GPT
from subgpt.quickstart.looks import answer_all, candidates_after, pieces_of, write_samples
from subgpt.quickstart.narrator import Narrator
from subgpt.quickstart.place import prepare
from subgpt.quickstart.plan import DEFAULT_STEPS, EXAMPLE, PROMPT, SAMPLE_PROMPTS, VOCAB_SIZE, Plan
from subgpt.quickstart.summary import Outcome, make_report, write_report
from subgpt.quickstart.texts import Texts, collect, shown
from subgpt.report.facts import Answer, Candidate, LossChange, Report, Sample, Stage
from subgpt.tokenizer import Tokenizer
from subgpt.training.config import TrainConfig
from subgpt.training.data import held_out_text
from subgpt.training.pretrain import pretrain
from subgpt.training.run import Run
from subgpt.units import duration

ANSWERS_SHOWN = 5
EVALUATED_BATCHES = 24


@dataclass
class _Course:
    """A quickstart under way: where it writes, how large it is, who tells it, what it did so far."""

    out: Path
    plan: Plan
    narrator: Narrator
    stages: list[Stage] = field(default_factory=list)
    begin: float = field(default_factory=time.monotonic)

    @contextmanager
    def stage(self, name: str, path: str) -> Iterator[list[str]]:
        """Announce a stage and note how long it took; what it did goes into the list."""
        self.narrator.stage(name)
        begin, what = time.monotonic(), list[str]()
        yield what
        self.stages.append(Stage(name, "; ".join(what), time.monotonic() - begin, path))


def quickstart(
    out: str | Path = "subgpt-quickstart",
    *,
    steps: int = DEFAULT_STEPS,
    seed: int = 0,
    narrator: Narrator | None = None,
) -> Report:
    """Train, fine-tune and sample a small GPT on the text that comes with Python; write everything to `out`.

    steps: pretraining steps; everything else is scaled with them. The same seed gives the same weights.

    Raises ConfigError for steps below 1, OutputError if `out` holds other files than an earlier quickstart's.
    KeyboardInterrupt ends it; what was trained until then stays in `out`.
    """
    training = TrainConfig(
        **Plan(steps, seed).pretraining
    )  # steps and seed are checked before anything is written
    course = _Course(prepare(Path(out)), Plan(steps, training.seed), narrator or Narrator())
    texts = _collect(course)
    tokenizer = _train_tokenizer(course, texts)
    model, base, old = _pretrain(course, texts, tokenizer, training)
    knowledge = measure(model, old)
    candidates, samples = _look(course, model, tokenizer)
    answers, tuned, losses = _finetune(course, texts, tokenizer, model, old, knowledge)
    report = make_report(
        Outcome(
            out=course.out,
            seconds=time.monotonic() - course.begin,
            seed=seed,
            texts=texts,
            parameters=model.num_params(),
            base=base,
            tuned=tuned,
            knowledge=knowledge,
            stages=course.stages,
            pieces=pieces_of(tokenizer, EXAMPLE),
            prompt=PROMPT,
            candidates=candidates,
            samples=samples,
            answers=answers,
            losses=losses,
        )
    )
    course.narrator.say(f"written: {', '.join(str(path) for path in write_report(report, course.out))}")
    course.narrator.commands(report.commands)
    return report


def _collect(course: _Course) -> Texts:
    with course.stage("Corpus", "corpus/") as did:
        texts = collect(course.out / "corpus", course.plan)
        did.append(texts.description)
        did.append(
            f"{len(texts.taught)} questions with answers to learn from, {len(texts.held_out)} held out"
        )
        for line in did:
            course.narrator.say(line)
    return texts


def _train_tokenizer(course: _Course, texts: Texts) -> Tokenizer:
    with course.stage("Tokenizer", "tokenizer/") as did:
        tokenizer = Tokenizer.train(iter(texts.documents), level="subword", vocab_size=VOCAB_SIZE)
        tokenizer.save(course.out / "tokenizer")
        did.append(f"byte-level BPE, {tokenizer.vocab_size} tokens")
        course.narrator.say(did[0])
        course.narrator.pieces(pieces_of(tokenizer, EXAMPLE))
    return tokenizer


def _pretrain(
    course: _Course, texts: Texts, tokenizer: Tokenizer, training: TrainConfig
) -> tuple[GPT, Run, HeldOut]:
    with course.stage("Pretraining", "base/") as did:
        config = GPTConfig(tokenizer.vocab_size, **course.plan.model)
        model = GPT(config, seed=training.seed, dtype="auto")
        with course.narrator.watching() as callbacks:
            run = pretrain(
                model, tokenizer, texts.corpus, training, output_dir=course.out / "base", callbacks=callbacks
            )
        _stop_if_interrupted(run)
        did.append(f"{config.n_layer} layers of {config.n_embd}, {model.num_params():,} parameters")
        did.append(f"{run.step} steps, {run.tokens:,} tokens in {duration(run.seconds)}")
        for line in did:
            course.narrator.say(line)
        # The very part that pretraining held out: loading the corpus the same way divides it the same way.
        _, val, _ = load_corpus(
            texts.corpus, tokenizer, val_fraction=training.val_fraction, seed=training.seed
        )
        old = held_out_text(val, config.block_size, training.batch_size).limited(EVALUATED_BATCHES)
    return model, run, old


def _look(course: _Course, model: GPT, tokenizer: Tokenizer) -> tuple[list[Candidate], list[Sample]]:
    candidates = candidates_after(model, tokenizer, PROMPT)
    course.narrator.candidates(PROMPT, candidates)
    samples = write_samples(model, tokenizer, SAMPLE_PROMPTS, course.plan.sample_tokens, course.plan.seed)
    course.narrator.samples(samples)
    return candidates, samples


def _finetune(
    course: _Course, texts: Texts, tokenizer: Tokenizer, model: GPT, old: HeldOut, knowledge: Evaluation
) -> tuple[list[Answer], Run, list[LossChange]]:
    """Fine-tune `model` in place; what it answers and how well it predicts, before and after."""
    with course.stage("Fine-tuning", "qa/") as did:
        rows = shown(texts.held_out, ANSWERS_SHOWN)
        questions = [row["question"] for row in rows]
        before = answer_all(model, tokenizer, questions, course.plan.answer_tokens)
        with course.narrator.watching() as callbacks:
            run = finetune(
                model,
                tokenizer,
                texts.pairs,
                TrainConfig(**course.plan.finetuning),
                eval_source=texts.held_out_pairs,
                output_dir=course.out / "qa",
                callbacks=callbacks,
            )
        _stop_if_interrupted(run)
        after = answer_all(model, tokenizer, questions, course.plan.answer_tokens)
        did.append(f"{run.step} steps on {len(texts.taught)} questions in {duration(run.seconds)}")
        course.narrator.say(did[0])
    answers = [
        Answer(row["question"], row["answer"], first, then)
        for row, first, then in zip(rows, before, after, strict=True)
    ]
    losses = [
        LossChange("new: answers to held-out questions", run.before["new"].loss, run.after["new"].loss),
        LossChange("old: held-out library and reference", knowledge.loss, measure(model, old).loss),
    ]
    course.narrator.answers(answers)
    course.narrator.losses(losses)
    return answers, run, losses


def _stop_if_interrupted(run: Run) -> None:
    """Ctrl-C ended the run after a step and a checkpoint; it ends the quickstart too."""
    if run.interrupted:
        raise KeyboardInterrupt

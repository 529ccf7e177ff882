"""lm-evaluation-harness: small tasks from local files, by its own loop and metrics, on four ways to the same model.

The model is stories260K, which really tells stories. It is asked in this process, through a server with the harness's
`local-completions`, and with the harness's `hf` model on what was saved here.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

import subgpt
from subgpt import ConfigError

from ..server_process import started

lm_eval = pytest.importorskip("lm_eval", reason='lm-eval is not installed: pip install "subgpt[eval]"')
from lm_eval.tasks import TaskManager  # noqa: E402

from subgpt.evaluation.lm_eval import SubgptLM  # noqa: E402

ENDINGS, WORDS, WRITING, WHOLE = "endings", "words", "writing", "whole"
KEPT = 40  # tokens of a text that is written


@pytest.fixture(scope="module")
def stories(shared):
    return subgpt.load(shared / "data" / "model" / "stories260K.bin")


@pytest.fixture(scope="module")
def saved(stories, tmp_path_factory) -> Path:
    model, tok = stories
    folder = tmp_path_factory.mktemp("runs") / "stories"
    model.save(folder, tokenizer=tok)
    return folder


@pytest.fixture(scope="module")
def documents(shared, stories) -> dict[str, list[dict]]:
    """Documents of each task, made of real stories."""
    model, tok = stories
    text = (shared / "data" / "corpora" / "tinystories_sample.txt").read_text(encoding="utf-8")
    paragraphs = [line for line in text.split("\n") if line.count(". ") >= 3][:20]
    cut = [p.split(". ") for p in paragraphs]
    endings = [
        {
            "context": ". ".join(parts[:2]) + ".",
            "choices": [f" {parts[2]}.", f" {' '.join(reversed(parts[2].split()))}."][:: 1 - 2 * (i % 2)],
            "answer": i % 2,
        }
        for i, parts in enumerate(cut)
    ]
    # Choices of one token, which take one pass together, and of two.
    words = [
        {"context": endings[i]["context"], "choices": [" the", " a", " He", " she", " big"], "answer": i % 5}
        for i in range(10)
    ]
    prompts = [" ".join(p.split()[:6]) for p in paragraphs[:8]]
    options = {"max_new_tokens": KEPT, "temperature": 0, "stop": [".", "!"], "token_healing": False}
    told = [subgpt.generate(model, tok, prompt, return_prompt=False, **options) for prompt in prompts]
    writing = [
        {"context": prompt, "told": answer if i % 2 == 0 else answer + " not"}
        for i, (prompt, answer) in enumerate(zip(prompts, told, strict=True))
    ]
    # The first is longer than the block of 512 tokens, the second than two of them.
    whole = [
        {"text": text[:2500].strip()},
        {"text": text[4000:8000].strip()},
        {"text": text[9000:9300].strip()},
    ]
    return {ENDINGS: endings, WORDS: words, WRITING: writing, WHOLE: whole}


@pytest.fixture(scope="module")
def tasks(documents, tmp_path_factory) -> TaskManager:
    """The tasks, as a user of the harness writes them down."""
    folder = tmp_path_factory.mktemp("tasks")
    choice = {"doc_to_text": "{{context}}", "doc_to_choice": "choices", "doc_to_target": "answer"}
    kinds = {
        ENDINGS: {"output_type": "multiple_choice", **choice},
        WORDS: {"output_type": "multiple_choice", **choice},
        WRITING: {
            "output_type": "generate_until",
            "doc_to_text": "{{context}}",
            "doc_to_target": "{{told}}",
            "generation_kwargs": {"until": [".", "!"], "max_gen_toks": KEPT, "do_sample": False},
        },
        WHOLE: {"output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": "{{text}}"},
    }
    metrics = {
        ENDINGS: ["acc", "acc_norm"],
        WORDS: ["acc"],
        WRITING: ["exact_match"],
        WHOLE: ["word_perplexity", "byte_perplexity", "bits_per_byte"],
    }
    for name, rows in documents.items():
        data = folder / f"{name}.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        files = {"data_files": {"test": str(data)}, "cache_dir": str(folder / "cache")}
        task = {
            "task": name,
            "dataset_path": "json",
            "dataset_kwargs": files,
            "test_split": "test",
            "target_delimiter": "",
            **kinds[name],
            "metric_list": [{"metric": metric} for metric in metrics[name]],
        }
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(task), encoding="utf-8")
    return TaskManager(include_path=str(folder), include_defaults=False)


def evaluated(tasks, model, **options):
    """What the harness measures: metrics by task, and what the model answered to each document."""
    found = lm_eval.simple_evaluate(
        model=model,
        tasks=[ENDINGS, WORDS, WRITING, WHOLE],
        task_manager=tasks,
        bootstrap_iters=0,
        log_samples=True,
        **options,
    )
    answers = {
        name: [sample["filtered_resps"] for sample in sorted(samples, key=lambda one: one["doc_id"])]
        for name, samples in found["samples"].items()
    }
    metrics = {
        name: {key.partition(",")[0]: value for key, value in values.items() if isinstance(value, float)}
        for name, values in found["results"].items()
    }
    return metrics, answers


@pytest.fixture(scope="module")
def here(tasks, stories):
    """What is measured in this process."""
    model, tok = stories
    return evaluated(tasks, SubgptLM(model=model, tokenizer=tok, batch_size=4))


def test_continuations_have_the_log_probabilities_of_complete(here, documents, stories):
    _, answers = here
    model, tok = stories
    for task in (ENDINGS, WORDS):
        for row, scored in zip(documents[task], answers[task], strict=True):
            before = len(subgpt.complete(model, tok, row["context"], echo=True, max_new_tokens=0)[0].ids)
            for choice, (logprob, is_greedy) in zip(row["choices"], scored, strict=True):
                (whole,) = subgpt.complete(
                    model, tok, row["context"] + choice, echo=True, logprobs=1, max_new_tokens=0
                )
                tokens = whole.tokens[before:]
                assert float(logprob) == pytest.approx(sum(token.logprob for token in tokens), abs=1e-5)
                assert str(is_greedy) == str(all(token.top[0].id == token.id for token in tokens))


def test_choices_are_the_most_probable_ones(here, documents):
    metrics, answers = here
    for task in (ENDINGS, WORDS):
        best = [int(np.argmax([float(logprob) for logprob, _ in scored])) for scored in answers[task]]
        right = [row["answer"] == choice for row, choice in zip(documents[task], best, strict=True)]
        assert metrics[task]["acc"] == pytest.approx(np.mean(right))
    assert metrics[ENDINGS]["acc"] > 0.9  # a sentence, or its words the other way round


def test_texts_are_those_of_generate(here):
    metrics, answers = here
    assert metrics[WRITING]["exact_match"] == 0.5  # every other target was changed
    assert not any(set(".!") & set(text) for (text,) in answers[WRITING])
    assert sum(len(text) > 5 for (text,) in answers[WRITING]) > 5


def test_whole_texts_have_the_loss_of_the_model(here, documents, stories):
    metrics, answers = here
    model, tok = stories
    total, size = 0.0, 0
    for row, (logprob,) in zip(documents[WHOLE], answers[WHOLE], strict=True):
        ids = np.array(
            [1, 1, *tok.encode(row["text"])]
        )  # the harness foretells <s>, too, as for its `hf` model
        total += float(logprob)
        size += len(row["text"].encode())
        if len(ids) <= 512:
            expected = -model.loss(ids[:-1], ids[1:]) * (len(ids) - 1)
            assert float(logprob) == pytest.approx(expected, rel=1e-5)
    assert metrics[WHOLE]["bits_per_byte"] == pytest.approx(-total / size / math.log(2), rel=1e-6)
    # A story at a time, as evaluate reads it, but for the windows: each of evaluate's begins without context.
    seen = subgpt.evaluate(model, tok, iter(row["text"] for row in documents[WHOLE]))
    assert metrics[WHOLE]["bits_per_byte"] == pytest.approx(seen.bits_per_byte, rel=0.03)


def test_a_saved_model_by_name_is_the_same(tasks, saved, here):
    assert evaluated(tasks, "subgpt", model_args={"path": str(saved)}, batch_size=3) == here


SERVER = {"model": "served", "num_concurrent": 4, "max_length": 514}
"""Of max_length the harness takes one for a token to write and one to foretell: the model sees its block of 512."""


def same(through, ours):
    """Continuations and texts bit for bit; whole texts but for the last digits, since here losses are added up."""
    for task in (ENDINGS, WORDS, WRITING):
        assert (through[0][task], through[1][task]) == (ours[0][task], ours[1][task])
    assert through[0][WHOLE] == pytest.approx(ours[0][WHOLE], rel=1e-6)
    for (theirs,), (logprob,) in zip(through[1][WHOLE], ours[1][WHOLE], strict=True):
        assert float(theirs) == pytest.approx(float(logprob), rel=1e-7)


def test_through_the_server_it_is_the_same_bit_for_bit(tasks, shared, tmp_path):
    for needed in ("tenacity", "uvicorn"):
        pytest.importorskip(needed, reason="pip install 'lm-eval[api]' \"subgpt[serve]\"")
    tok = subgpt.Tokenizer.train(shared / "data" / "corpora" / "tinystories_sample.txt", vocab_size=400)
    model = subgpt.GPT(subgpt.GPTConfig(400, block_size=512, n_layer=2, n_head=2, n_embd=32), seed=1)
    model.save(tmp_path / "served", tokenizer=tok)
    with started(tmp_path / "served") as (address, _, _):
        settings = {"base_url": f"{address}/v1/completions", "tokenizer_backend": "remote", **SERVER}
        through = evaluated(tasks, "local-completions", model_args=settings, batch_size=4)
    same(through, evaluated(tasks, SubgptLM(model=model, tokenizer=tok)))


def test_through_the_server_with_the_beginning_that_a_tokenizer_puts_before_texts(tasks, saved, here):
    for needed in ("tenacity", "uvicorn", "transformers"):
        pytest.importorskip(needed, reason="pip install 'lm-eval[api]' \"subgpt[serve]\" transformers")
    with started(saved, "--name", "served") as (address, _, _):
        tokenizer = {"tokenizer_backend": "huggingface", "tokenizer": str(saved), "add_bos_token": True}
        settings = {"base_url": f"{address}/v1/completions", **tokenizer, **SERVER}
        through = evaluated(tasks, "local-completions", model_args=settings, batch_size=4)
    same(through, here)


def test_transformers_scores_the_same(tasks, saved, here):
    for needed in ("torch", "transformers", "accelerate"):
        pytest.importorskip(needed, reason=f"{needed} is not installed")
    settings = {"pretrained": str(saved), "device": "cpu", "dtype": "float32"}
    metrics, answers = evaluated(tasks, "hf", model_args=settings, batch_size=4)
    # There a text is decoded without its prompt, and loses the space that it begins with.
    assert answers[WRITING] == [[text.removeprefix(" ")] for (text,) in here[1][WRITING]]
    for task in (ENDINGS, WORDS):
        assert metrics[task] == here[0][task]
        for theirs, ours in zip(answers[task], here[1][task], strict=True):
            for (their_logprob, their_greedy), (logprob, is_greedy) in zip(theirs, ours, strict=True):
                assert float(their_logprob) == pytest.approx(float(logprob), abs=1e-3)
                assert their_greedy == is_greedy
    for theirs, ours in zip(answers[WHOLE], here[1][WHOLE], strict=True):
        assert float(theirs[0]) == pytest.approx(float(ours[0]), rel=1e-5)


@pytest.mark.timeout(600)  # it reads all of the harness's own tasks first
def test_its_command_line_knows_the_model(tasks, saved, tmp_path):
    folder = tasks.include_path
    command = [
        *(sys.executable, "-m", "subgpt.evaluation.lm_eval", "run", "--model", "subgpt"),
        *("--model_args", f"path={saved},max_length=256", "--tasks", WORDS, "--include_path", folder),
        *("--limit", "3", "--output_path", str(tmp_path / "out")),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "HF_HUB_OFFLINE": "1"}
    )
    assert done.returncode == 0, done.stderr
    assert "|words" in done.stdout
    (written,) = (tmp_path / "out").rglob("results_*.json")
    config = json.loads(written.read_text())["config"]
    assert (config["model"], config["model_num_parameters"]) == ("subgpt", 260_032)


def test_its_command_line_says_in_a_line_what_is_wrong(monkeypatch):
    from subgpt.evaluation.lm_eval import __main__ as command

    monkeypatch.setattr(command, "cli_evaluate", lambda: SubgptLM("no/such/run"))
    with pytest.raises(SystemExit, match="subgpt: error: no/such/run: no such directory"):
        command.main()


def test_where_it_is_an_installed_package_the_harness_finds_it():
    from importlib.metadata import entry_points

    (found,) = entry_points(group="lm_eval.models", name="subgpt") or [None]
    if found is None:
        pytest.skip("subgpt is not installed here, only on the path")
    assert found.load() is SubgptLM


def test_chats_are_written_by_the_models_template(stories):
    model, tok = stories
    lm = SubgptLM(model=model, tokenizer=tok)
    with pytest.raises(ConfigError, match="no chat template"):
        lm.apply_chat_template([{"role": "user", "content": "Hi"}])
    assert lm.chat_template(False) is None
    lm._template = subgpt.data.ChatTemplate("{% for m in messages %}<{{ m.role }}>{{ m.content }}<end>{% endfor %}"
                                            "{% if add_generation_prompt %}<assistant>{% endif %}")  # fmt: skip
    talk = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "The cat "}]
    assert lm.apply_chat_template(talk[:1]) == "<user>Who?<end><assistant>"
    assert lm.apply_chat_template(talk, add_generation_prompt=False) == "<user>Who?<end><assistant>The cat"
    assert "<assistant>" in lm.chat_template(True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "one of path"),
        ({"path": "x", "quantise": "int8"}, "did you mean 'quantize'"),
        ({"max_length": 513}, "from 1 to 512"),
        ({"max_gen_toks": "many"}, "max_gen_toks = 'many'"),
        ({"batch_size": 0}, "batch_size = 0"),
    ],
)
def test_arguments_that_cannot_be(stories, arguments, said):
    model, tok = stories
    if arguments and "path" not in arguments:
        arguments = {**arguments, "model": model, "tokenizer": tok}
    with pytest.raises(ConfigError) as error:
        SubgptLM(**arguments)
    assert said in str(error.value)

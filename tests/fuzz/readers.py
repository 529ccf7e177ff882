"""Any bytes as a file that Python reads: something that can be used, or an error of subgpt's own.

Each target takes a folder and bytes, puts files made of them there and opens these as a user does. Property tests
(`test_readers.py`) and fuzzing (`run.py`) call the same functions. To add a reader is to add a function here, with
seeds in `seeds/` under its name.
"""

from __future__ import annotations

import functools
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import subgpt
from subgpt.errors import InternalError, OutOfMemoryError, SubgptError

SEEDS = Path(__file__).parent / "seeds"
BORDER = b"\n=====\n"
"""Stands between the files of a target that has several."""

TARGETS: dict[str, Callable[[Path, bytes], object]] = {}
MESSAGES = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "who?"}]


def check(name: str, data: bytes) -> bool:
    """Give the bytes to a target; tell whether they were taken.

    Only errors of subgpt's own may come out, with words, and none that says that subgpt is at fault, or that a small
    file asks for more memory than there is.
    """
    with tempfile.TemporaryDirectory(prefix="subgpt-fuzz-") as folder:
        try:
            TARGETS[name](Path(folder), data)
        except (InternalError, OutOfMemoryError):
            raise
        except SubgptError as error:
            _need(str(error), f"{type(error).__name__} without a word")
            return False
    return True


def _need(condition: object, problem: str) -> None:
    if not condition:
        raise AssertionError(problem)


def target(function: Callable[[Path, bytes], object]) -> Callable[[Path, bytes], object]:
    TARGETS[function.__name__] = function
    return function


def put(folder: Path, data: bytes, *names: str) -> None:
    """Write the parts of the bytes to files of these names; parts that are not there make no file."""
    for name, part in zip(names, data.split(BORDER), strict=False):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(part)


@functools.cache
def tokenizer() -> subgpt.Tokenizer:
    return subgpt.Tokenizer.train(iter(["so much depends upon <|endoftext|>"]), level="char")


@functools.cache
def shape() -> subgpt.GPTConfig:
    return subgpt.GPTConfig(
        vocab_size=tokenizer().vocab_size, block_size=4, n_layer=1, n_head=1, n_embd=2, n_inner=2, bias=False
    )


@functools.cache
def saved_model() -> Path:
    """A directory with a small model, to take files from."""
    folder = Path(tempfile.mkdtemp(prefix="subgpt-fuzz-model-"))
    subgpt.GPT(shape(), seed=1).save(folder)
    return folder


# --- data ------------------------------------------------------------------------------------------------------------


def _texts(folder: Path, data: bytes, name: str) -> None:
    from subgpt.data.documents import read_documents

    put(folder, data, name)
    for errors in ("replace", "strict"):
        try:
            documents = list(read_documents(folder / name, errors=errors))  # type: ignore[arg-type]
            assert all(isinstance(document.text, str) for document in documents)
        except SubgptError as error:
            _need(name in str(error), f"the file is not named: {error}")


@target
def text(folder: Path, data: bytes) -> None:
    _texts(folder, data, "poem.txt")


@target
def gzip_text(folder: Path, data: bytes) -> None:
    _texts(folder, data, "poem.txt.gz")


@target
def jsonl_text(folder: Path, data: bytes) -> None:
    _texts(folder, data, "poems.jsonl")


def _rows(folder: Path, data: bytes, name: str) -> None:
    from subgpt.data.instruct import read_examples

    put(folder, data, name)
    examples = read_examples(folder / name)
    assert all(example.messages for example in examples)


@target
def jsonl(folder: Path, data: bytes) -> None:
    _rows(folder, data, "chat.jsonl")


@target
def json_array(folder: Path, data: bytes) -> None:
    _rows(folder, data, "chat.json")


@target
def csv(folder: Path, data: bytes) -> None:
    _rows(folder, data, "qa.csv")


@target
def tsv(folder: Path, data: bytes) -> None:
    _rows(folder, data, "qa.tsv")


@target
def pairs(folder: Path, data: bytes) -> None:
    from subgpt.preference.pairs import read_pairs

    put(folder, data, "pairs.jsonl")
    assert read_pairs(folder / "pairs.jsonl")


# --- ids -------------------------------------------------------------------------------------------------------------


@target
def prepared(folder: Path, data: bytes) -> None:
    _token_set(folder, data, folder, "dataset.json", "train-00000.bin", "train-00000.idx")


@target
def shard(folder: Path, data: bytes) -> None:
    from subgpt.data.shards import check_shard, read_index, read_shard

    put(folder, data, "a.bin", "a.idx")
    try:
        ids = read_shard(folder / "a.bin")
        assert ids.nbytes <= len(data)
        check_shard(folder / "a.bin")
    finally:
        if (folder / "a.idx").exists():
            assert read_index(folder / "a.idx").nbytes <= len(data)


@target
def foreign_ids(folder: Path, data: bytes) -> None:
    _token_set(folder, data, folder / "ids.bin", "ids.bin")


@target
def raw_ids(folder: Path, data: bytes) -> None:
    _token_set(folder, data, folder / "train.bin", "train.bin", "val.bin")


def _token_set(folder: Path, data: bytes, place: Path, *names: str) -> None:
    from subgpt.data.token_sets import open_token_set

    put(folder, data, *names)
    found = open_token_set(place, tokenizer(), val_fraction=0.1)
    assert 4 * (len(found.train) + len(found.val)) <= 2 * len(data)
    assert int(found.train[:].max(initial=0)) < tokenizer().vocab_size


# --- models ----------------------------------------------------------------------------------------------------------


@target
def model_config(folder: Path, data: bytes) -> None:
    put(folder, data, "config.json")
    shutil.copy(saved_model() / "model.safetensors", folder)
    subgpt.load(folder)


@target
def model_files(folder: Path, data: bytes) -> None:
    """The files beside the weights of a model."""
    names = ("generation_config.json", "tokenizer_config.json", "special_tokens_map.json")
    put(folder, data, *names, "model.safetensors.index.json")
    shutil.copy(saved_model() / "config.json", folder)
    indexed = (folder / "model.safetensors.index.json").exists()
    shutil.copy(
        saved_model() / "model.safetensors", folder / ("a.safetensors" if indexed else "model.safetensors")
    )
    model, _ = subgpt.load(folder)
    if model.chat_template is not None:
        model.chat_template.render(MESSAGES)


@target
def chat_template(folder: Path, data: bytes) -> None:
    from subgpt.data.chat import ChatTemplate

    put(folder, data, "chat_template.jinja", "tokenizer_config.json")
    found = ChatTemplate.load(folder)
    assert len(found.render(MESSAGES, add_generation_prompt=True)) < 64 << 20


@target
def adapter(folder: Path, data: bytes) -> None:
    put(folder, data, "adapter_config.json", "adapter_model.safetensors")
    subgpt.GPT(shape(), seed=1).load_adapter(folder)


@target
def llama2c(folder: Path, data: bytes) -> None:
    put(folder, data, "stories.bin")
    subgpt.load(folder / "stories.bin")


@target
def gguf(folder: Path, data: bytes) -> None:
    put(folder, data, "model.gguf")
    subgpt.load(folder / "model.gguf")


# --- runs ------------------------------------------------------------------------------------------------------------


@target
def settings(folder: Path, data: bytes) -> None:
    from subgpt.cli.settings import resolve

    put(folder, data, "settings.yaml")
    known = [*subgpt.TrainConfig.model_fields]
    values = resolve(folder / "settings.yaml", {}, known, subgpt.TrainConfig, ("train",))
    subgpt.TrainConfig(**values)


@target
def checkpoint(folder: Path, data: bytes) -> None:
    """A `state.json` whose checksum is right, whatever else is in it."""
    import json

    from subgpt.checkpoint.checkpoints import prune_best, read_state
    from subgpt.checkpoint.checksums import sum_of_values
    from subgpt.training.resume import check_inputs, check_model, merge_settings

    place = folder / "step-000001"
    names = ("state.json", "config.json", "model.safetensors", "optimizer.safetensors")
    put(folder, data, *(f"step-000001/{name}" for name in names))
    try:
        values = json.loads((place / "state.json").read_text(encoding="utf-8"))
        if isinstance(values, dict):
            values.pop("checksum", None)
            values["checksum"] = sum_of_values(values)
            (place / "state.json").write_text(json.dumps(values), encoding="utf-8")
    except (ValueError, RecursionError):
        pass
    state = read_state(place)
    prune_best(folder, ())
    merge_settings(subgpt.TrainConfig(max_steps=100), state, "here")
    check_model(subgpt.GPT(shape(), seed=1), state, "here")
    check_inputs(state, state.data, state.tokenizer, "here")


@target
def run_files(folder: Path, data: bytes) -> None:
    """What a run that goes on reads beside its checkpoints."""
    from subgpt.checkpoint.run_directory import RunDirectory
    from subgpt.training.runner import read_before, write_settings

    put(folder, data, "training/before.json", "training/config.yaml")
    directory = RunDirectory(folder)
    if directory.settings.exists():
        write_settings(directory, "pretrain", subgpt.TrainConfig(), subgpt.GPT(shape(), seed=1), resumed=True)
    read_before(directory.before)


@target
def metrics(folder: Path, data: bytes) -> None:
    from subgpt.training.metrics import MetricsFile
    from subgpt.training.run import Run

    put(folder, data, "training/metrics.jsonl")
    Run.load(folder)
    file = MetricsFile(folder / "training" / "metrics.jsonl", keep_to_step=3)
    file.close()
    Run.load(folder)


@target
def sweep(folder: Path, data: bytes) -> None:
    from subgpt.search.plan import Plan, SweepDirectory

    put(folder, data, "sweep.json", "trials/001.json")
    directory = SweepDirectory(folder)
    directory.read_outcome(1, {})
    Plan.read(directory)


def seeds(name: str) -> list[bytes]:
    """The files that a target begins with."""
    return [path.read_bytes() for path in sorted((SEEDS / name).iterdir())]

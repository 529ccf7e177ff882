"""Mistakes that newcomers make: each ends in one line that names the place and says what to do, and in a fitting code.

`{x}` in a command line is a path of the folder that `place` makes; the words are parts of the line.
"""

import contextlib
import os
import pickle
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from subgpt.checkpoint.run_directory import RunDirectory

from .conftest import SHAPE, invoke

SMALL = " ".join(map(str, SHAPE))
PRETRAIN = f"pretrain --data {{corpus}} --tokenizer {{tok}} {SMALL} --max-steps 1 -o {{new}}"
FINETUNE = "finetune {run} --max-steps 1 -o {new} --data "
POSIX = pytest.mark.skipif(os.name != "posix", reason="signals, pipes and limits of POSIX")


@pytest.fixture(scope="module")
def things(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The shop's things by name, and things that are taken for them."""
    folder = tmp_path_factory.mktemp("mistakes")
    (folder / "empty").mkdir()
    (folder / "runs").mkdir()
    (folder / "runs" / "base").symlink_to(shop / "run", target_is_directory=True)
    (folder / "half").mkdir()
    (folder / "half" / "model.safetensors").write_bytes(b"x" * 64)
    texts = {
        "plain.txt": "some words\n",
        "none.txt": "",
        "key.yaml": "max_stepz: 5\n",
        "value.yaml": "max_steps: many\n",
        "broken.yaml": "max_steps: [1, 2\n",
        "broken.json": '{"max_steps": 2,',
        "list.yaml": "- a\n",
        "twice.yaml": "max_steps: 3\nbatch_size: 2\nmax_steps: 4\n",
        "data.yaml": "data: 5\n",
        "seed.yaml": "seed: x\n",
        "no_seed.yaml": "seed:\n",
        "tokenizer.yaml": "tokenizer: [a]\n",
        "pairs.jsonl": '{"prompt": "a", "chosen": "b", "rejected": "c"}\n',
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "binary.txt").write_bytes(b"a\0b" * 50)
    (folder / "table.parquet").write_bytes(b"PAR1\0\0")
    (folder / "model.pt").write_bytes(pickle.dumps({"a": 1}))
    done = invoke("data", "prepare", shop / "corpus", "-t", shop / "subword", "-o", folder / "prepared")
    assert done.code == 0, done.err
    paths = {path.name.replace(".", "_"): str(path) for path in folder.iterdir()}
    own = {"corpus": shop / "corpus", "tok": shop / "subword", "chars": shop / "char", "run": shop / "run"}
    own |= {"qa": shop / "qa.jsonl", "folder": folder, "shop": shop}
    return paths | {name: str(path) for name, path in own.items()}


@pytest.fixture
def place(things: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """The same, and `new`, where nothing is."""
    return things | {"new": str(tmp_path / "new")}


# What is typed, the exit code, and words of the one line of complaint.
TYPED = [
    # A path that leads nowhere, or to something else.
    ("generate {folder}/nowhere hi", 1, ["nowhere: no such directory", "config.json and weights"]),
    ("generate {shop}/rum hi", 1, ["did you mean", "run'"]),
    ("probs {plain_txt} hi", 1, ["is no model", ".gguf file"]),
    ("chat {empty}", 1, ["is empty", "subgpt pretrain"]),
    ("info {tok}", 1, ["is a tokenizer, which belongs to --tokenizer"]),
    ("evaluate {prepared} --data {plain_txt}", 1, ["is prepared data, which belongs to --data"]),
    ("export {runs} -o {new}", 1, ["holds some", "runs/base"]),
    ("export {half} -o {new}", 1, ["no config.json", "fetch it too"]),
    ("export {model_pt} -o {new}", 1, ["can run code when opened", "save_pretrained"]),
    ("export {run} -o {empty}", 1, ["is a directory", "name a file"]),
    ("export {run} -o /dev/null", 1, ["/dev/null: is not a regular file", "model.gguf"]),
    ("merge {run} {tok} -o {new}", 1, ["adapter_config.json"]),
    ("merge {run} {folder}/nowhere -o {new}", 1, ["no such file or directory", "adapter_model.safetensors"]),
    ("merge {run} -o {new}", 1, ["no adapter", "name the directory"]),
    ("sweep --model {tok} --data {qa} -o {new} lora_r=2", 1, ["is a tokenizer"]),
    ("lr-find --model {folder}/nowhere --data {qa}", 1, ["no such directory"]),
    ("data inspect --data {qa} --model {folder}/nowhere", 1, ["no such directory"]),
    ("serve {tok} --port 0", 1, ["is a tokenizer"]),
    (PRETRAIN.replace("{tok}", "{folder}/nowhere"), 1, ["nowhere", "subgpt tokenizer train"]),
    (PRETRAIN.replace("{tok}", "{shop}/subwrd"), 1, ["did you mean", "subword"]),
    (PRETRAIN.replace("{tok}", "{plain_txt}"), 1, ["is no tokenizer", "subgpt tokenizer train"]),
    (PRETRAIN.replace("{tok}", "{corpus}"), 1, ["holds no tokenizer", "tokenizer.json"]),
    (PRETRAIN.replace("{tok}", "{model_pt}"), 1, ["is no tokenizer file"]),
    (PRETRAIN.replace("{corpus}", "{folder}/plan.txt"), 1, ["no such file", "did you mean", "plain.txt"]),
    (PRETRAIN.replace("{corpus}", "{folder}/*.md"), 1, ["nothing matches"]),
    (PRETRAIN.replace("{corpus}", "{empty}"), 1, ["no text files", "name a directory with text"]),
    (PRETRAIN.replace("{corpus}", "{none_txt}"), 1, ["no document with any text", "give text"]),
    (PRETRAIN.replace("{corpus}", "{binary_txt}"), 1, ["binary file", "UTF-8"]),
    (PRETRAIN.replace("{corpus}", "{table_parquet}"), 1, ["binary file", "subgpt data prepare"]),
    (PRETRAIN.replace("{corpus}", "{plain_txt}"), 1, ["block_size", "give more text"]),
    (PRETRAIN.replace("{corpus}", "{run}"), 1, ["is a model and no text"]),
    (PRETRAIN.replace("{corpus}", "{tok}"), 1, ["is a tokenizer, which belongs to --tokenizer"]),
    (PRETRAIN.replace("{corpus}", "{qa}"), 1, ["question + answer", "subgpt finetune"]),
    (PRETRAIN.replace("{corpus}", "''"), 1, ["file name is empty"]),
    (
        PRETRAIN.replace("{corpus}", "{prepared}").replace("{tok}", "{chars}"),
        1,
        ["another tokenizer", "prepare the text again"],
    ),
    (PRETRAIN.replace("{new}", "{run}"), 1, ["--resume", "--overwrite-output-dir"]),
    (PRETRAIN.replace("{new}", "{plain_txt}"), 1, ["Not a directory", "choose another directory"]),
    ("pretrain -o {folder}/nowhere --resume", 1, ["no run to resume", "check -o"]),
    (FINETUNE + "{pairs_jsonl}", 1, ["pairs.jsonl:1", "neither a text", "prompt + completion"]),
    (FINETUNE + "{folder}/nowhere", 1, ["no such file or directory"]),
    ("dpo {run} -o {new} --data {qa}", 1, ["no preference", "chosen"]),
    ("evaluate {run}", 1, ["give --data", "--probe"]),
    ("tokenizer encode -t {tok} --file {corpus}", 1, ["is a directory", "name a file"]),
    ("tokenizer count -t {tok} --file {folder}/nowhere", 1, ["cannot read it", "check the name"]),
    ("tokenizer decode -t {tok} one", 1, ["'one'", "give whole numbers"]),
    ("tokenizer decode -t {chars} --file {prepared}/train-00000.bin", 1, ["another tokenizer"]),
    ("tokenizer train {corpus} -o {plain_txt}", 1, ["is a file", "name a directory"]),
    ("data prepare {corpus} -t {tok} -o {run}", 1, ["has something in it", "name a directory"]),
    ("data prepare {corpus} -t {chars} -o {prepared}", 1, ["another tokenizer", "--overwrite"]),
    ("data inspect --data {qa}", 1, ["--model is missing"]),
    ("attention {run} hi -o {folder}/nowhere/a.png", 1, ["cannot write it", "directory that is there"]),
    ("attention {run} hi -o {new}.doc", 1, ["must end in one of .png"]),
    ("sweep -o {folder}/nowhere --resume", 1, ["no sweep to resume"]),
    ("serve {run} --api-key-file {folder}/nowhere", 1, ["nowhere", "check the name"]),
    ("serve {run} --host a..b --api-key 0123456789abcdef", 1, ["cannot listen", "no name", "--host"]),
    ("serve {run} --host no.such.host --api-key 0123456789abcdef", 1, ["cannot listen", "--host"]),
    ("serve {run} --host 203.0.113.1 --api-key 0123456789abcdef", 1, ["203.0.113.1", "another --host"]),
    # Words that are not known.
    ("pretran", 2, ["pretran", "'pretrain'"]),
    ("tokenizer trian", 2, ["'train'", "subgpt tokenizer --help"]),
    ("generate {run} hi --temprature 1", 2, ["did you mean --temperature?"]),
    ("generate {run} hi --no-ehco", 2, ["did you mean --no-echo?"]),
    ("pretrain --device cuda -o {new}", 2, ["computed by the processor"]),
    ("pretrain --epochs 3 -o {new}", 2, ["--max-steps"]),
    ("bench --threads 2", 2, ["SUBGPT_NUM_THREADS"]),
    ("generate {run} hi there", 2, ["there", "in quotes"]),
    ("generate", 2, ["RUN", "subgpt generate --help"]),
    ("tokenizer train {corpus}", 2, ["'--output-dir'"]),
    ("explain-step one two three", 2, ["3 arguments", "in quotes"]),
    ("evaluate {run} --data {qa} --side tarin", 2, ["'--side'", "did you mean 'train'?"]),
    ("generate {run} hi --quantize int3", 2, ["'--quantize'", "did you mean 'int8'?"]),
    ("export {run} -o {new} --format onnx", 2, ["known: gguf, hf"]),
    ("tokenizer train {corpus} --level words -o {new}", 2, ["did you mean 'word'?"]),
    ("tokenizer train {corpus} --vocab-size many -o {new}", 2, ["--vocab-size", "whole number"]),
    (f"{PRETRAIN} --preset nanoo", 1, ["did you mean 'nano'?"]),
    (f"{PRETRAIN} --report-to tensorbord", 1, ["did you mean 'tensorboard'?", "--report-to"]),
    (FINETUNE + "{qa} --recipe qaa", 1, ["did you mean 'qa'?"]),
    ("sweep --data {corpus} --tokenizer {tok} -o {new} learnig_rate=1", 1, ["did you mean 'learning_rate'?"]),
    # Values that cannot be, wherever they come from.
    ("generate {run} hi --temperature hot", 2, ["'--temperature'", "number"]),
    ("generate {run} hi --temperature -1", 1, ["temperature = -1", "set by --temperature"]),
    ("probs {run} hi -k 0", 1, ["1 or more"]),
    ("generate {run} hi --logit-bias 5", 1, ["ID=BIAS"]),
    ("probs {run} hi --logit-bias 5=1", 2, ["no such option", "--logit-bias"]),
    ("chat {run} --bad-words-ids 5", 2, ["no such option", "--bad-words-ids"]),
    (f"{PRETRAIN} --learning-rate 0", 1, ["learning_rate = 0", "set by --learning-rate"]),
    (f"{PRETRAIN} --n-head 3", 1, ["not a multiple", "set by --n-embd, set by --n-head"]),
    (f"{PRETRAIN} --optimizer adm", 1, ["'adamw'", "set by --optimizer"]),
    (f"{PRETRAIN} --config {{key_yaml}}", 1, ["key.yaml", "'max_stepz'", "did you mean 'max_steps'?"]),
    (
        "pretrain --data {corpus} --tokenizer {tok} -o {new} --config {value_yaml}",
        1,
        ["max_steps = 'many'", "set in", "value.yaml"],
    ),
    (f"{PRETRAIN} --config {{broken_yaml}}", 1, ["broken.yaml:2", "not YAML", "max_steps: 500"]),
    (f"{PRETRAIN} --config {{broken_json}}", 1, ["broken.json:1", "not YAML"]),
    (f"{PRETRAIN} --config {{list_yaml}}", 1, ["expected lines such as"]),
    (f"{PRETRAIN} --config {{twice_yaml}}", 1, ["twice.yaml:3", "max_steps is there twice"]),
    (f"{PRETRAIN} --config {{corpus}}", 1, ["is a directory", "--config takes a YAML file"]),
    (f"{PRETRAIN} --config {{folder}}/nowhere", 1, ["no such file", "--config takes a YAML file"]),
    ("pretrain --tokenizer {tok} -o {new} --config {data_yaml}", 1, ["data = 5", "file, directory or glob"]),
    ("pretrain --data {corpus} -o {new} --config {tokenizer_yaml}", 1, ["tokenizer = ['a']", "no path"]),
    (
        "sweep --data {corpus} --tokenizer {tok} -o {new} --config {seed_yaml} --random 2 n_layer=1,2",
        1,
        ["seed = 'x'", "seed.yaml"],
    ),
    (
        "sweep --data {corpus} --tokenizer {tok} -o {new} --config {no_seed_yaml} --random 2 n_layer=1,2",
        1,
        ["seed = None"],
    ),
    ("quickstart --steps 0 -o {new}", 2, ["'--steps'"]),
    ("data prepare {corpus} -t {tok} -o {new} --near-duplicates 3", 1, ["near_duplicates", "0.8 is usual"]),
]


@pytest.mark.parametrize(("typed", "code", "words"), TYPED, ids=[typed for typed, _, _ in TYPED])
def test_a_mistake_is_one_line_that_says_what_to_do(
    place: dict[str, str], typed: str, code: int, words: list[str]
) -> None:
    arguments = [word.format_map(place) for word in shlex.split(typed)]
    result = invoke(*arguments)
    assert result.code == code, result.err
    assert result.out == ""
    assert "internal error" not in result.err
    assert all(word in result.line() for word in words), result.line()
    assert not Path(place["new"]).exists() or not RunDirectory(place["new"]).weights.exists()


def typed_with(place: dict[str, str], typed: str, **variables: str) -> tuple[int, str]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        result = invoke(*(word.format_map(place) for word in shlex.split(typed)))
    return result.code, result.err


def test_variables_are_named_where_their_value_cannot_be(place: dict[str, str]) -> None:
    code, said = typed_with(place, PRETRAIN, SUBGPT_SAVE_STEPS="many")
    assert code == 2
    assert "SUBGPT_SAVE_STEPS = 'many'" in said
    assert "correct the variable or unset it" in said
    code, said = typed_with(place, PRETRAIN, SUBGPT_SAVE_STEPS="-1")
    assert code == 1
    assert "save_steps = -1" in said
    assert "(set by SUBGPT_SAVE_STEPS)" in said
    code, said = typed_with(place, "estimate --seconds 0", SUBGPT_PRESET="nanoo")
    assert code == 1
    assert "did you mean 'nano'?" in said
    code, said = typed_with(place, "dpo {run} -o {new} --data {pairs_jsonl}", SUBGPT_BETA="0")
    assert code == 1
    assert "beta = 0" in said
    assert "(set by SUBGPT_BETA)" in said


def test_variables_that_mean_nothing_are_a_warning(place: dict[str, str]) -> None:
    code, said = typed_with(
        place, "estimate --preset nano --seconds 0", SUBGPT_MAX_STEPZ="3", SUBGPT_HYPOTHESIS="slow"
    )
    assert code == 0
    assert "SUBGPT_MAX_STEPZ is set, and means nothing; did you mean SUBGPT_MAX_STEPS?" in said
    assert "HYPOTHESIS" not in said
    code, said = typed_with(place, "info", SUBGPT_ISA="avx9", SUBGPT_NUM_THREADS="lots")
    assert code == 0
    assert "SUBGPT_ISA = 'avx9' is not used; this processor has portable" in said
    assert "SUBGPT_NUM_THREADS = 'lots' is not used; give a whole number" in said


EXTRAS = [
    ("matplotlib", "attention {run} 'The cat' -o {new}.png", "plot"),
    ("matplotlib", "tokenizer stats -t {tok} {corpus} --plot {new}.png", "plot"),
    ("pyarrow", "data prepare {table_parquet} -t {tok} -o {new}", "data"),
    ("huggingface_hub", "generate owner/model hi", "hub"),
    ("uvicorn", "serve {run}", "serve"),
    ("nicegui", "serve {run} --port 0", "serve"),
    ("llguidance", "generate {run} hi --regex a+", "structured"),
    ("tensorboardX", f"{PRETRAIN} --report-to tensorboard", "tensorboard"),
    ("wandb", f"{PRETRAIN} --report-to wandb", "wandb"),
    ("rensa", "data prepare {corpus} -t {tok} -o {new} --near-duplicates 0.8", "dedup"),
    ("ray", "data prepare {corpus} -t {tok} -o {new} --ray local", "ray"),
    ("ray", "sweep --data {corpus} --tokenizer {tok} -o {new} --ray local learning_rate=1e-3", "ray"),
]


def without(module: str, patch: pytest.MonkeyPatch) -> None:
    """Make every import of `module` fail, and forget what of the package was imported with it."""
    for name in list(sys.modules):
        if name == module or name.startswith((f"{module}.", "subgpt.serving", "subgpt.playground")):
            patch.delitem(sys.modules, name)
    patch.setitem(sys.modules, module, None)


@pytest.mark.parametrize(("module", "typed", "extra"), EXTRAS, ids=[f"{m}: {t}" for m, t, _ in EXTRAS])
def test_a_missing_extra_names_the_line_to_type(
    place: dict[str, str], module: str, typed: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(module, monkeypatch)
    result = invoke(*(word.format_map(place) for word in shlex.split(typed)))
    assert result.code == 1
    assert f'pip install "subgpt[{extra}]"' in result.line()


def test_ids_that_are_no_text_are_refused(place: dict[str, str]) -> None:
    result = invoke("tokenizer", "decode", "-t", place["tok"], "-", stdin=b"\xff 1")
    assert result.code == 1
    assert "standard input: byte 0 is not UTF-8" in result.line()


def test_a_port_that_is_taken_is_known_before_a_model_is_loaded(place: dict[str, str]) -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        line = invoke("serve", place["empty"], "--port", taken.getsockname()[1]).line()
    assert "cannot listen" in line


def test_a_port_that_is_taken_is_named_with_the_option(place: dict[str, str]) -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        line = invoke("serve", place["run"], "--no-playground", "--port", port).line()
    assert f"port {port}: " in line
    assert line.endswith("give another --port (0: a free one)")


def test_a_run_that_never_made_a_step_is_not_in_the_way(place: dict[str, str]) -> None:
    given = shlex.split(PRETRAIN.format_map(place))
    directory = RunDirectory(place["new"])
    directory.create()
    directory.metrics.write_text('{"step": 0, "val_loss": 5.0, "seconds": 0.1}\n', encoding="utf-8")
    assert invoke(*given).code == 0
    assert "--resume" in invoke(*given).line()


def process(*arguments: object, **options: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "subgpt.cli", *map(str, arguments)]
    return subprocess.Popen(command, text=True, **options)  # type: ignore[call-overload, no-any-return]


@POSIX
def test_a_reader_that_goes_away_ends_a_command_but_no_run(place: dict[str, str]) -> None:
    python = f"{shlex.quote(sys.executable)} -m subgpt.cli"
    script = (
        f"{python} tokenizer decode -t {place['tok']} --file {place['prepared']}/train-00000.bin | true; "
    )
    run = PRETRAIN.format_map(place)
    script += f"echo ${{PIPESTATUS[0]}}; {python} {run} 2>&1 | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.split() == ["141", "0"], done.stderr
    assert done.stderr == ""
    assert RunDirectory(place["new"]).weights.exists()


@POSIX
def test_streams_that_the_shell_closed_are_no_defect(place: dict[str, str]) -> None:
    python = f"{shlex.quote(sys.executable)} -m subgpt.cli"
    script = (
        f"{python} tokenizer count -t {place['tok']} - <&- && {python} info >&- && {python} --version 2>&-"
    )
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("0\nsubgpt ")


@POSIX
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_results_that_find_no_room_are_named(place: dict[str, str]) -> None:
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = ("tokenizer", "encode", "-t", place["tok"], "hi")
    with Path("/dev/full").open("w") as full:
        done = process(*command, stdout=full, stderr=subprocess.PIPE, env=buffered)
        said = done.communicate(timeout=60)[1]
    assert done.returncode == 1
    assert (
        said == "subgpt: error: standard output: No space left on device; make room, or name another place\n"
    )


@POSIX
def test_an_interrupted_run_says_what_it_saved_and_how_to_go_on(place: dict[str, str]) -> None:
    given = PRETRAIN.replace("--max-steps 1", "--max-steps 1000000").format_map(place)
    with process(*shlex.split(given), stderr=subprocess.PIPE) as running:
        assert running.stderr is not None
        for line in running.stderr:
            if line.startswith("step 1/"):
                break
        running.send_signal(signal.SIGINT)
        said = running.stderr.read()
    assert running.returncode == 130
    assert "checkpoint " in said
    assert "--resume" in said
    assert said.splitlines()[-1] == "subgpt: interrupted"


@POSIX
def test_too_little_memory_is_said_in_units_that_are_read(place: dict[str, str]) -> None:
    shape = "--n-layer 2 --n-head 8 --n-embd 4096 --vocab-size 200000 --block-size 2048 --batch-size 512"
    command = (
        f"ulimit -v 4000000; exec {shlex.quote(sys.executable)} -m subgpt.cli bench {shape} --seconds 0.1"
    )
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert "iB" in done.stderr
    assert "smaller model" in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr

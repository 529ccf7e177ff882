"""What holds for every command: -q and -v, JSON for scripts, colours, progress in logs, completion, `subgpt info`."""

import contextlib
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from subgpt.cli.app import VERBS
from subgpt.cli.commands.data import COMMANDS as OF_DATA
from subgpt.cli.commands.tokenizer import COMMANDS as OF_TOKENIZER
from subgpt.cli.facts import EXTRAS
from subgpt.training.callbacks import LogLines, StepEvent

from .conftest import SHAPE, invoke

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = [(verb,) for verb in VERBS if verb not in ("tokenizer", "data")]
COMMANDS += [("tokenizer", name) for name in OF_TOKENIZER] + [("data", name) for name in OF_DATA]
SMALL = " ".join(map(str, SHAPE))
PRETRAIN = f"pretrain --data {{corpus}} --tokenizer {{tok}} {SMALL} --max-steps 3 -o {{new}}"


@pytest.fixture
def place(shop: Path, tmp_path: Path) -> dict[str, str]:
    own = {"corpus": shop / "corpus", "tok": shop / "subword", "run": shop / "run", "qa": shop / "qa.jsonl"}
    return {name: str(path) for name, path in {**own, "new": tmp_path / "new"}.items()}


def words(typed: str, place: dict[str, str]) -> list[str]:
    return [word.format_map(place) for word in shlex.split(typed)]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_takes_q_and_v(command: tuple[str, ...]) -> None:
    shown = invoke(*command, "--help").out
    assert all(flag in shown for flag in ("--quiet", "-q", "--verbose", "-v", "--debug"))


@pytest.mark.parametrize("typed", [f"-q {PRETRAIN}", f"{PRETRAIN} -q", f"-q {PRETRAIN} -v"])
def test_quiet_is_silent_and_keeps_the_settings(place: dict[str, str], typed: str) -> None:
    result = invoke(*words(typed, place))
    assert (result.code, result.out, result.err) == (0, "", "")
    settings = (Path(place["new"]) / "training" / "config.yaml").read_text(encoding="utf-8")
    assert place["corpus"] in settings


def test_quiet_leaves_results_warnings_and_errors(
    place: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert invoke("-q", "generate", place["run"], "The", "--max-new-tokens", 0).out == "The"
    assert "no such directory" in invoke("info", "nowhere", "-q").line()
    monkeypatch.setenv("SUBGPT_ISA", "avx9")
    assert "subgpt: warning: SUBGPT_ISA" in invoke("-q", "info").err


def test_verbose_says_each_step_and_what_it_took(place: dict[str, str]) -> None:
    said = invoke(*words(f"{PRETRAIN} -v", place)).err
    assert [f"step {step}/3  " in said for step in (1, 2, 3)] == [True] * 3
    assert re.search(r"^took [\d.]+ \w+ and at most [\d.]+ .iB of memory$", said, re.MULTILINE)
    said = invoke("-v", "generate", place["run"], "The", "--max-new-tokens", 3).err
    assert "parameters, float32, opened in" in said
    assert "tokens/s" in said


def test_one_command_does_not_make_the_next_one_quiet(place: dict[str, str]) -> None:
    assert invoke("-q", "--debug", "info", "nowhere").err.startswith("Traceback")
    assert not invoke("info", "nowhere").err.startswith("Traceback")
    assert "took" not in invoke("info").err


JSON = [
    "generate {run} The --max-new-tokens 2",
    "generate {run} The --ask --max-new-tokens 2",
    "probs {run} The -k 2",
    "evaluate {run} --data {qa}",
    "estimate --preset nano --seconds 0",
    "bench --n-layer 1 --n-head 1 --n-embd 8 --block-size 8 --vocab-size 9 --batch-size 1 --seconds 0",
    "explain-step 'the cat'",
    "attention {run} 'The cat' -o {new}.png",
    "tokenizer train {corpus} --vocab-size 260 -o {new}",
    "tokenizer encode -t {tok} hi",
    "tokenizer decode -t {tok} 104 105",
    "tokenizer count -t {tok} hi",
    "tokenizer show -t {tok} hi",
    "tokenizer stats -t {tok} {corpus}",
    "tokenizer convert {tok} -o {new}",
    "data inspect --data {qa} --model {run}",
    "data inspect --data {corpus}",
    "data prepare {corpus} -t {tok} -o {new}",
    "finetune {run} --data {qa} -o {new} --max-steps 1",
    PRETRAIN,
    "export {run} -o {new}",
    "info",
    "info {run}",
]


@pytest.mark.parametrize("typed", JSON)
def test_json_is_one_line_and_alone_on_standard_output(place: dict[str, str], typed: str) -> None:
    result = invoke(*words(typed, place), "--json")
    assert result.code == 0, result.err
    assert result.out.count("\n") == 1
    assert json.loads(result.out)


def test_what_json_says_of_runs_and_texts(place: dict[str, str]) -> None:
    text = json.loads(invoke(*words("generate {run} The --max-new-tokens 4 --seed 3 --json", place)).out)
    plain = invoke(*words("generate {run} The --max-new-tokens 4 --seed 3 --no-echo", place)).out
    assert text == {"model": place["run"], "prompt": "The", "text": plain, "seed": 3}
    run = json.loads(invoke(*words(f"{PRETRAIN} --json", place)).out)
    assert (run["output_dir"], run["steps"], run["interrupted"]) == (place["new"], 3, False)
    assert run["best_val_loss"] > 0


def test_an_error_leaves_standard_output_empty(place: dict[str, str]) -> None:
    result = invoke("info", "nowhere", "--json")
    assert (result.code, result.out) == (1, "")


def screen(typed: str, place: dict[str, str], **variables: str) -> str:
    """What a terminal gets."""
    pty = pytest.importorskip("pty")
    parent, child = pty.openpty()
    clean = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR")}
    command = [sys.executable, "-m", "subgpt.cli", *words(typed, place)]
    env = {**clean, "TERM": "xterm-256color", **variables}
    seen = b""
    with subprocess.Popen(command, stdout=child, stderr=child, stdin=child, env=env):
        os.close(child)
        with contextlib.suppress(OSError):  # the end, for Linux
            while data := os.read(parent, 65536):
                seen += data
    os.close(parent)
    return seen.decode()


def test_no_color_is_no_escape_at_all_and_a_dumb_terminal_gets_lines(place: dict[str, str]) -> None:
    assert "\x1b" not in screen("info", place, NO_COLOR="1")
    dumb = screen(PRETRAIN, place, TERM="dumb")
    assert "\x1b" not in dumb
    assert "step 3/3  loss" in dumb


def test_forced_colours_are_no_terminal(place: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert invoke("generate", place["run"], "a\x1bb", "--max-new-tokens", 0).out == "a\x1bb"
    said = invoke(*words(PRETRAIN, place)).err
    assert "step 3/3  loss" in said
    assert "━" not in said


def test_a_long_run_is_a_line_now_and_then_that_says_how_long_is_left(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = LogLines()
    for step in range(1, 10_001):
        lines.on_step(StepEvent(step, 20_000, 1.0, 1e-3, 1.0, 1000.0, step * 0.006))
    told = capsys.readouterr().err.splitlines()
    assert 10 <= len(told) <= 14
    assert "left" not in told[0]
    assert re.search(r"about \d+ (s|min) left$", told[-1])


def complete(monkeypatch: pytest.MonkeyPatch, shell: str, line: str) -> str:
    monkeypatch.setenv("_SUBGPT_COMPLETE", f"complete_{shell}")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
    monkeypatch.setenv("_TYPER_COMPLETE_ARGS", line)
    monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
    return invoke().out


@pytest.mark.parametrize(
    ("line", "completions"),
    [
        ("subgpt pre", ["pretrain"]),
        ("subgpt tokenizer co", ["count", "convert"]),
        ("subgpt pretrain --pres", ["--preset"]),
        ("subgpt pretrain --preset nano", ["nano", "nanogpt-cpu", "nano-modern"]),
        ("subgpt pretrain --preset d4", ["d4", *(f"d{n}" for n in range(40, 49))]),
        ("subgpt finetune run --recipe ", ["knowledge", "qa", "speciality", "voice"]),
        ("subgpt pretrain --lr-scheduler-type w", ["warmup_stable_decay"]),
        ("subgpt pretrain --norm ", ["layer_norm", "rms_norm"]),
        ("subgpt export run --quantize q", ["q8_0", "q4_0"]),
        ("subgpt generate run --chat-template ch", ["chatml"]),
        ("subgpt info --v", ["--verbose"]),
        ("subgpt info ru", []),  # paths are left to the shell
    ],
)
def test_shells_complete_commands_options_and_values(
    monkeypatch: pytest.MonkeyPatch, line: str, completions: list[str]
) -> None:
    assert complete(monkeypatch, "bash", line).split() == completions


def test_zsh_and_fish_get_their_own_forms(monkeypatch: pytest.MonkeyPatch) -> None:
    assert complete(monkeypatch, "zsh", "subgpt pre").startswith('_arguments \'*: :(("pretrain":')
    assert complete(monkeypatch, "fish", "subgpt pre").startswith("pretrain\t")


@pytest.mark.skipif(sys.platform != "linux", reason="needs a new bash")
def test_bash_itself_completes(tmp_path: Path) -> None:
    script = tmp_path / "subgpt"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m subgpt.cli "$@"\n', encoding="utf-8")
    script.chmod(0o755)
    typed = (
        'eval "$(_SUBGPT_COMPLETE=source_bash subgpt)"; COMP_WORDS=(subgpt tokenizer tr); COMP_CWORD=2; '
        'complete -p subgpt; _subgpt_completion subgpt; echo "${COMPREPLY[@]}"'
    )
    env = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", typed], env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.splitlines() == ["complete -o default -F _subgpt_completion subgpt", "train"]


def test_info_has_what_a_report_needs_and_nothing_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "SUBGPT_API_KEY"):
        monkeypatch.setenv(name, "hidden-value")
    monkeypatch.setenv("HF_HOME", "/models")
    monkeypatch.setenv("SUBGPT_NUM_THREADS", "1")
    monkeypatch.setenv("SUBGPT_ISA", "portable")
    result = invoke("info", "--json")
    facts = json.loads(result.out)
    assert "hidden-value" not in result.out
    assert facts["HF_TOKEN"] == facts["SUBGPT_API_KEY"] == "set, and not shown"
    assert facts["models of the hub"] == "/models"
    assert facts["threads are"] == "what SUBGPT_NUM_THREADS says"
    assert "by the affinity mask" in facts["cores"]
    assert facts["memory"].endswith("for this process")
    assert Path(facts["native module"]).is_file()
    for extra, packages in EXTRAS.items():
        said = facts[f"extra {extra}"]
        assert f'pip install "subgpt[{extra}]"' in said or all(package in said for package in packages)


def test_the_extras_of_info_are_those_of_the_package() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    table = text.partition("[project.optional-dependencies]\n")[2].partition("\n[")[0]
    listed = dict(re.findall(r"^(\w+) = \[(.*?)\](?: #[^\n]*)?$", table.replace("[client]", ""), re.M | re.S))
    assert set(listed) - {"test", "parity", "all"} == set(EXTRAS)
    for extra, packages in EXTRAS.items():
        names = set(re.findall(r'"([\w-]+)[><=]', listed[extra]))
        assert names - {"mpich", "impi-rt", "pydantic"} == set(packages)

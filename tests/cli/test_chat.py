import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import subgpt
from subgpt.cli.talk.commands import run_command
from subgpt.cli.talk.lines import line_reader
from subgpt.cli.talk.talk import Talk, run_talk
from subgpt.data import Message, read_examples
from subgpt.errors import ConfigError, DataError, SubgptError
from subgpt.finetuning.chat import prepare_chat
from subgpt.generation.conversation import Conversation

from .conftest import invoke

TURNS = [("Who sat?", "The cat."), ("On what?", "On the mat."), ("And who sang?", "The owl.")]
TALK = [
    {"role": role, "content": text}
    for turn in TURNS
    for role, text in zip(("user", "assistant"), turn, strict=True)
]


@pytest.fixture(scope="session")
def parrot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that knows one talk by heart, written in ChatML."""
    folder = tmp_path_factory.mktemp("parrot")
    texts = [f"{question} {answer}" for question, answer in TURNS]
    tokenizer = subgpt.Tokenizer.train(iter([*texts, "user assistant system\n"]), level="char")
    config = subgpt.GPTConfig(tokenizer.vocab_size, 224, 2, 2, 32, position="rotary")
    model = subgpt.GPT(config, seed=1)
    tokenizer = prepare_chat(model, tokenizer, "chatml")
    training = subgpt.TrainConfig(
        max_steps=120,
        batch_size=3,
        learning_rate=1e-2,
        val_fraction=0,
        recall_tokens=0,
        chat_template="chatml",
    )
    rows = [{"messages": TALK[:length]} for length in (2, 4, 6)]
    subgpt.finetune(model, tokenizer, rows, training, output_dir=folder / "run", callbacks=())
    return folder / "run"


@pytest.fixture
def talk(parrot: Path) -> Talk:
    model, tokenizer = subgpt.load(parrot)
    settings = subgpt.GenerationConfig(temperature=0, max_new_tokens=40)
    return Talk(Conversation(model, tokenizer), settings)


def said(*turns: tuple[str, str]) -> list[Message]:
    return [
        Message(role, text) for turn in turns for role, text in zip(("user", "assistant"), turn, strict=True)
    ]


def reading(*lines: str | type[BaseException]) -> Callable[[], str]:
    """Read these lines, and raise those that are exceptions."""
    rest = iter(lines)

    def read() -> str:
        line = next(rest, EOFError)
        if isinstance(line, str):
            return line
        raise line

    return read


def test_lines_of_a_pipe_are_questions(parrot: Path) -> None:
    result = invoke("chat", parrot, "--temperature", 0, stdin="Who sat?\n\nOn what?\r\nAnd who sang?")
    assert result.code == 0, result.err
    assert result.out == "The cat.\nOn the mat.\nThe owl.\n"
    assert result.err == ""


def test_speed_and_cache_are_shown_if_asked_for(parrot: Path) -> None:
    result = invoke("chat", parrot, "--temperature", 0, "-v", stdin="Who sat?\nOn what?\n")
    opened, first, second, took = result.err.splitlines()
    assert "parameters" in opened
    assert took.startswith("took ")
    assert "8 tokens in " in first
    assert "tokens/s; 0 of " in first
    assert "tokens/s; 0 of " not in second


def test_generate_asks_with_the_models_template(parrot: Path) -> None:
    asked = invoke("generate", parrot, "Who sat?", "--ask", "--temperature", 0)
    assert asked.out == "The cat."
    other = invoke("generate", parrot, "Who sat?", "--ask", "--temperature", 0, "--chat-template", "plain")
    assert other.code == 0
    assert other.out != "The cat."


def test_errors_are_one_line_and_the_talk_goes_on(parrot: Path) -> None:
    result = invoke("chat", parrot, "--temperature", 0, stdin="/temprature 1\nWho sat?\n")
    assert result.code == 1
    assert "there is no command /temprature; did you mean 'temperature'?" in result.line()
    assert result.out == "The cat.\n"
    assert "UTF-8" in invoke("chat", parrot, stdin=b"\xff\n").line()
    assert "missing" in invoke("chat", parrot.parent / "missing").line()
    assert "temperature = -1" in invoke("chat", parrot, "--temperature", -1).line()


def test_a_line_that_is_no_text_is_one_line_and_the_talk_goes_on(parrot: Path) -> None:
    result = invoke("chat", parrot, "--temperature", 0, stdin=b"Who sat?\n\xff\nOn what?\n")
    assert result.code == 1
    assert result.out.splitlines() == ["The cat.", "On the mat."]
    assert "byte 0 of the line is not UTF-8" in result.line()


def test_a_reader_that_goes_away_ends_a_talk(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody_reads(question: str) -> bool:
        raise BrokenPipeError

    monkeypatch.setattr(talk, "ask", nobody_reads)
    with pytest.raises(BrokenPipeError):
        run_talk(talk, reading("Who sat?", "On what?"), interactive=False)


def test_a_slash_is_said_with_two(talk: Talk, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_talk(talk, reading("//Who sat?"), interactive=False)
    assert talk.turns[0].content == "/Who sat?"


# --- commands ---


def test_settings_change_and_are_shown(talk: Talk, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(talk, "/temperature 0.7")
    assert run_command(talk, "/top-k 5 ")
    assert run_command(talk, "/max_new_tokens")
    assert (talk.settings.temperature, talk.settings.top_k) == (0.7, 5)
    assert capsys.readouterr().err.splitlines() == ["temperature = 0.7", "top_k = 5", "max_new_tokens = 40"]
    with pytest.raises(ConfigError, match="top_p = '7'"):
        run_command(talk, "/top_p 7")
    assert not run_command(talk, "/quit")


def test_undo_reset_and_system(talk: Talk, capsys: pytest.CaptureFixture[str]) -> None:
    for question, _ in TURNS[:2]:
        talk.ask(question)
    assert talk.messages == said(*TURNS[:2])
    run_command(talk, "/undo")
    assert talk.messages == said(TURNS[0])
    run_command(talk, "/system The owl sang.")
    assert talk.messages == [Message("system", "The owl sang."), *said(TURNS[0])]
    run_command(talk, "/reset")
    assert talk.messages == [Message("system", "The owl sang.")]
    run_command(talk, "/system")
    assert talk.messages == []
    with pytest.raises(DataError, match="/undo: nothing was said yet"):
        run_command(talk, "/undo")
    assert capsys.readouterr().out == "The cat.\nOn the mat.\n"


def test_what_is_saved_is_read_by_fine_tuning_and_taken_up_again(talk: Talk, tmp_path: Path) -> None:
    file = tmp_path / "talks.jsonl"
    file.write_text('{"question": "Who?", "answer": "Me."}', encoding="utf-8")  # without a line end
    talk.ask(TURNS[0][0])
    run_command(talk, "/system Sing.")
    run_command(talk, f"/save {file}")
    examples = read_examples(file)
    assert len(examples) == 2
    assert list(examples[1].messages) == [Message("system", "Sing."), *said(TURNS[0])]
    run_command(talk, "/reset")
    talk.system = ""
    run_command(talk, f"/load {file}")
    assert (talk.system, talk.turns) == ("Sing.", said(TURNS[0]))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("/save", "name a file that ends in .jsonl"),
        ("/save talk.txt", "name a file that ends in .jsonl"),
        ("/save {tmp}/talk.jsonl", "nothing was said yet"),
        ("/load {tmp}/none.jsonl", "none.jsonl"),
        ("/load {tmp}/odd.jsonl", "do not take turns"),
        ("/sav talk.jsonl", "did you mean 'save'?"),
        ("/", "there is no command"),
    ],
)
def test_what_cannot_be_done_leaves_the_talk_as_it_was(
    talk: Talk, tmp_path: Path, line: str, words: str
) -> None:
    odd = {"messages": [*TALK[:2], TALK[1]]}
    (tmp_path / "odd.jsonl").write_text(json.dumps(odd), encoding="utf-8")
    with pytest.raises(SubgptError, match=words):
        run_command(talk, line.format(tmp=tmp_path))
    assert talk.messages == []
    assert not (tmp_path / "talk.jsonl").exists()


def test_a_place_that_cannot_be_written_is_one_line(parrot: Path, tmp_path: Path) -> None:
    place = tmp_path / "missing" / "talk.jsonl"
    result = invoke("chat", parrot, "--temperature", 0, stdin=f"Who sat?\n/save {place}\n")
    assert result.code == 1
    assert "missing" in result.line()


def test_help_lists_every_command(talk: Talk, capsys: pytest.CaptureFixture[str]) -> None:
    run_command(talk, "/help")
    listed = capsys.readouterr().err
    names = "system reset undo save load help quit temperature top_k top_p min_p max_new_tokens seed"
    assert all(f"/{name}" in listed for name in names.split())


# --- Ctrl-C, and talks that grow too long ---


def interrupted_after(pieces: list[str]) -> Iterator[str]:
    yield from pieces
    raise KeyboardInterrupt


def test_ctrl_c_stops_an_answer_and_keeps_what_was_said(
    talk: Talk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(talk.conversation, "answer", lambda *_: interrupted_after(["The ", "c"]))
    read = reading(
        "Who sat?", "/help", KeyboardInterrupt, "/undo", KeyboardInterrupt, KeyboardInterrupt, "never"
    )
    assert run_talk(talk, read, interactive=True)
    shown = capsys.readouterr()
    assert shown.out == "The c\n"
    assert shown.err.count("Ctrl-C again, or /quit, leaves") == 2
    assert talk.turns == []
    read = reading("Who sat?", KeyboardInterrupt, "never")
    assert run_talk(talk, read, interactive=True)
    assert talk.turns == said(("Who sat?", "The c"))


def test_a_stopped_answer_without_a_word_is_no_turn(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(talk.conversation, "answer", lambda *_: interrupted_after([]))
    assert not talk.ask("Who sat?")
    assert talk.turns == []
    with pytest.raises(KeyboardInterrupt):
        run_talk(talk, reading("Who sat?"), interactive=False)


def test_ctrl_c_while_a_question_is_read_stops_this_answer_alone(
    talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> Iterator[str]:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(talk.conversation, "answer", interrupted)
        assert not talk.ask("Who sat?")
    assert talk.turns == []
    assert talk.ask("Who sat?")


def test_a_talk_that_outgrows_the_context_forgets_its_oldest_turns_and_says_so_once(parrot: Path) -> None:
    result = invoke("chat", parrot, "--max-new-tokens", 12, "--seed", 1, stdin="Who sat?\n" * 12)
    assert result.code == 0, result.err
    assert result.err.count("outgrown the model's context of 224 tokens") == 1
    assert len(result.err.splitlines()) == 1
    long = invoke("chat", parrot, "--max-new-tokens", 4, "--seed", 1, stdin="Who sat? " * 40 + "\n")
    assert long.code == 0
    assert "only the end of it is seen" in long.err


# --- lines ---


@pytest.mark.skipif(os.name != "posix", reason="pseudo-terminals are POSIX")
@pytest.mark.parametrize("editor", ["prompt_toolkit", "none"])
def test_a_terminal_is_asked_for_lines(parrot: Path, editor: str) -> None:
    """In a terminal of its own, with and without the editor."""
    if editor == "prompt_toolkit":
        pytest.importorskip("prompt_toolkit")
    hide = "sys.modules['prompt_toolkit'] = None; " if editor == "none" else ""
    code = f"import sys; {hide}from subgpt.cli import main; sys.exit(main(sys.argv[1:]))"
    ours, theirs = os.openpty()
    command = [sys.executable, "-c", code, "chat", str(parrot), "--temperature", "0"]
    environment = {**os.environ, "TERM": "dumb"}
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        seen = b""
        for line in (b"Who sat?\n", b"/quit\n"):
            while not seen.rstrip().endswith(b">"):
                seen += os.read(ours, 4096)
            os.write(ours, line)
            seen += line
        with contextlib.suppress(OSError):  # which is how the end of a terminal reads on Linux
            while more := os.read(ours, 4096):
                seen += more
    os.close(ours)
    assert process.returncode == 0
    assert b"The cat." in seen
    assert b"asked in the chat template" in seen


def test_a_pipe_is_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    read_end, write_end = os.pipe()
    os.write(write_end, "é\r\n\nlast".encode())
    os.close(write_end)
    with os.fdopen(read_end, encoding="latin-1") as stream:
        monkeypatch.setattr("sys.stdin", stream)
        read = line_reader()
        assert [read(), read(), read()] == ["é", "", "last"]
        with pytest.raises(EOFError):
            read()


def test_a_run_without_tokenizer_says_what_is_missing(parrot: Path, tmp_path: Path) -> None:
    shutil.copytree(parrot, tmp_path / "run")
    (tmp_path / "run" / "tokenizer.json").unlink()
    assert "tokenizer.json" in invoke("chat", tmp_path / "run").line()

"""`subgpt data inspect`: what is counted and shown, in the terminal, as JSON and as a page."""

import json
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from subgpt import Tokenizer, load
from subgpt.tokenizer import add_special_tokens

from .conftest import invoke

HOSTILE = "<script>alert('x')</script>\x1b[31m"
CHAT = [
    {"from": "human", "value": "Who sat?"},
    {"from": "gpt", "value": "The cat."},
    {"from": "human", "value": f"Where {HOSTILE}<|im_end|>?"},
    {"from": "gpt", "value": "On the mat."},
]


@pytest.fixture
def chats(tmp_path: Path) -> Path:
    file = tmp_path / "chats.jsonl"
    file.write_text(json.dumps({"conversations": CHAT}) + "\n", encoding="utf-8")
    return file


@pytest.fixture
def chatty(shop: Path, tmp_path: Path) -> Path:
    """A tokenizer that knows ChatML's tokens."""
    add_special_tokens(Tokenizer.load(shop / "subword"), ["<|im_start|>", "<|im_end|>"]).save(
        tmp_path / "chatty"
    )
    return tmp_path / "chatty"


def test_what_is_counted(untouched: Path) -> None:
    done = invoke("data", "inspect", "--data", untouched / "qa.jsonl", "--model", untouched / "run", "-n", 2)
    assert done.code == 0, done.err
    assert "rows with question + answer in" in done.out
    assert "in the plain form" in done.out
    assert "24 prompts at their beginning" in " ".join(done.out.split())
    assert f"{untouched / 'qa.jsonl'}:2" in done.out
    assert f"{untouched / 'qa.jsonl'}:3" not in done.out
    assert "Answer:«·The·cat·sat·on·0.<|endoftext|>»" in done.out


def test_json_says_the_same(shop: Path) -> None:
    done = invoke("data", "inspect", "--data", shop / "qa.jsonl", "--model", shop / "run", "-n", 1, "--json")
    told = json.loads(done.out)
    tok = Tokenizer.load(shop / "subword")
    answers = sum(tok.count(f" The cat sat on {i}.") + 1 for i in range(24))
    assert (told["examples"], told["trained_tokens"], told["block_size"]) == (24, answers, 16)
    [shown] = told["shown"]
    assert [part["trained"] for part in shown["parts"]] == [False, True]
    assert shown["parts"][1]["text"] == " The cat sat on 0.<|endoftext|>"


@pytest.mark.parametrize(("loss_on", "trained"), [("answers", 2), ("last", 1), ("all", 1)])
def test_chats_and_what_is_learnt_of_them(chats: Path, chatty: Path, loss_on: str, trained: int) -> None:
    given = ("data", "inspect", "--data", chats, "-t", chatty, "--loss-on", loss_on, "--json")
    told = json.loads(invoke(*given).out)
    assert told["form"] == "chatml"
    assert sum(part["trained"] for part in told["shown"][0]["parts"]) == trained
    assert told["masked_tokens"] == 0 if loss_on == "all" else told["masked_tokens"] > 0
    assert json.loads(invoke(*given, "--chat-template", "plain").out)["form"] == "plain"


def test_tokens_that_are_missing_are_said(shop: Path, chats: Path) -> None:
    done = invoke("data", "inspect", "--data", chats, "-t", shop / "subword", "--chat-template", "chatml")
    assert done.code == 0
    assert "has no special tokens <|im_start|>, <|im_end|>" in done.err
    assert "«The·cat.<|im_end|>»" in done.out
    assert "\x1b" not in done.out


def test_a_template_from_a_file_and_its_refusal(chats: Path, chatty: Path, tmp_path: Path) -> None:
    template = tmp_path / "mine.jinja"
    template.write_text("{{ raise_exception('only one turn') if messages | length > 2 }}", encoding="utf-8")
    done = invoke("data", "inspect", "--data", chats, "-t", chatty, "--chat-template", template)
    assert done.code == 1
    assert f"{chats}:1: the chat template {template} refuses the messages: only one turn" in done.line()


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.marked: list[str] = []
        self.inside = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.inside += tag == "mark"

    def handle_endtag(self, tag: str) -> None:
        self.inside -= tag == "mark"

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.marked.append(data)


def test_the_page(chats: Path, chatty: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    done = invoke("data", "inspect", "--data", chats, "-t", chatty, "--html", page)
    assert done.code == 0, done.err
    html = page.read_text(encoding="utf-8")
    tags = Tags()
    tags.feed(html)
    assert "script" not in tags.seen
    assert "\x1b" not in html
    assert "http" not in html
    assert tags.marked == ["The·cat.<|im_end|>", "On·the·mat.<|im_end|>"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '{"question": "a", "answer": " "}',
            "bad.jsonl:1: field 'answer' is empty, so there is nothing to train on",
        ),
        ('{"messages": [{"role": "user", "content": "a"}]}', "bad.jsonl:1: the last message is of 'user'"),
        ('{"messages": [{"role": "tool", "content": "a"}]}', "bad.jsonl:1: message 1: unknown role 'tool'"),
        ("{broken", "bad.jsonl:1: not JSON"),
        ('{"text": " "}', "no document with any text in it (1 empty, 0 bad rows)"),
        ("", "no document with any text in it"),
    ],
)
def test_nothing_to_train_is_an_error_of_one_line(
    shop: Path, tmp_path: Path, text: str, message: str
) -> None:
    file = tmp_path / "bad.jsonl"
    file.write_text(text, encoding="utf-8")
    done = invoke("data", "inspect", "--data", file, "--model", shop / "run")
    assert done.code == 1
    assert message in done.line()


def test_what_is_missing_or_wrong(shop: Path, tmp_path: Path) -> None:
    data = ("data", "inspect", "--data", shop / "qa.jsonl")
    assert "--model is missing" in invoke(*data).line()
    assert "known: answers, all, last" in invoke(*data, "--model", shop / "run", "--loss-on", "x").line()
    assert (
        "no such file; a chat template is"
        in invoke(*data, "--model", shop / "run", "--chat-template", "x").line()
    )
    assert invoke("data", "inspect").code == 2
    assert invoke(*data, "--model", tmp_path / "nowhere").code == 1
    assert "inspect" in invoke("data").out


def test_finetuning_keeps_the_template_for_what_comes_after(shop: Path, tmp_path: Path) -> None:
    template = tmp_path / "mine.jinja"
    template.write_text(
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n\n{% endfor %}", encoding="utf-8"
    )
    given = ("--data", shop / "qa.jsonl", "--max-steps", 2, "--eval-steps", 0, "--batch-size", 2)
    done = invoke(
        "finetune",
        shop / "run",
        *given,
        "-o",
        tmp_path / "qa",
        "--chat-template",
        template,
        "--loss-on",
        "last",
    )
    assert done.code == 0, done.err
    assert f"written with the chat template {template}; the loss is on the last answer" in done.err
    kept = tmp_path / "qa" / "chat_template.jinja"
    assert kept.read_text(encoding="utf-8") == template.read_text(encoding="utf-8")
    told = invoke("data", "inspect", "--data", shop / "qa.jsonl", "--model", tmp_path / "qa", "--json")
    assert json.loads(told.out)["form"] == str(kept)
    assert invoke("evaluate", tmp_path / "qa", "--data", shop / "qa.jsonl").code == 0
    resumed = invoke("finetune", shop / "run", "-o", tmp_path / "qa", "--resume", "--max-steps", 3)
    assert resumed.code == 0, resumed.err


def test_models_of_all_kinds_are_shown_as_they_would_be_trained(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, adapted, file = tmp_path / "run", tmp_path / "adapted", tmp_path / "run.gguf"
    shutil.copytree(shop / "run", run)
    (run / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
    given = ("--data", shop / "qa.jsonl", "--max-steps", 1, "--eval-steps", 0, "--batch-size", 2)
    for made in (
        invoke("export", run, "-o", file),
        invoke("finetune", run, *given, "-o", adapted, "--lora-r", 2),
    ):
        assert made.code == 0, made.err
    (adapted / "chat_template.jinja").unlink(missing_ok=True)
    monkeypatch.setattr("subgpt.checkpoint.load.fetch", {"owner/model": run}.get)
    own = run / "chat_template.jinja"
    for model, form in ((file, file), (adapted, own), ("owner/model", own)):
        done = invoke("data", "inspect", "--data", shop / "qa.jsonl", "--model", model, "--json")
        told = json.loads(done.out)
        assert (told["form"], told["block_size"]) == (str(form), 16)


def test_chatmls_tokens_are_added_where_they_are_asked_for(shop: Path, tmp_path: Path) -> None:
    given = ("--data", shop / "qa.jsonl", "--chat-template", "chatml", "--max-steps", 2)
    done = invoke("finetune", shop / "run", *given, "-o", tmp_path / "x")
    assert done.code == 0, done.err
    (_, before), (model, after) = load(shop / "run"), load(tmp_path / "x")
    assert before is not None
    assert after is not None
    assert after.vocab_size == model.config.vocab_size == before.vocab_size + 2
    assert after.special_tokens["<|im_end|>"] in model.generation_config["eos_token_id"]
    # What the run was begun with counts, template and all.
    resumed = invoke("finetune", shop / "run", "-o", tmp_path / "x", "--resume", "--max-steps", 3)
    assert resumed.code == 0, resumed.err


def test_running_text_is_surveyed(shop: Path, tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    rows = ["the cat", "the dog", "the cat", None, "жук 7\r\n", "lost \ufffd", " "]
    lines = [json.dumps({"text": row}) for row in rows]
    (folder / "a.jsonl").write_text("\n".join([lines[0], "{broken", *lines[1:]]) + "\n", encoding="utf-8")
    (folder / "b.txt").write_bytes(b"\xef\xbb\xbfgood \xff bad")
    (folder / "c.csv").write_text("n,text\n1,the dog\n2,a\x1bb\n", encoding="utf-8")
    done = invoke("data", "inspect", "--data", folder, "-t", shop / "char")
    assert done.code == 0, done.err
    assert "\x1b" not in done.out
    told = json.loads(invoke("data", "inspect", "--data", folder, "-t", shop / "char", "--json").out)
    assert (told["documents"], told["duplicates"], told["bad_rows"], told["empty"]) == (8, 2, 2, 1)
    assert told["encodings"] == {"UTF-8": 2, "UTF-8 with a mark": 1}
    assert [why.split(": ")[0].rsplit("/")[-1] for why in told["bad"]] == ["a.jsonl:2", "a.jsonl:5"]
    assert told["twins"][0] == [f"{folder / 'a.jsonl'}:4", f"{folder / 'a.jsonl'}:1"]
    assert told["damage"] == [f"{folder / 'b.txt'}: not UTF-8: byte 0xff at offset 8 (invalid start byte)"]
    assert told["scripts"]["cyrillic"] == 6
    assert (told["crlf"], told["replaced"], told["scripts"]["control"]) == (1, 1, 1)
    assert told["tokens"] > 0
    assert told["unknown"] > 0
    assert len(told["to_fix"]) == 7
    assert told["longest"][0] == [12, f"{folder / 'b.txt'}:1"]
    text = ("data", "inspect", "--data", shop / "corpus")
    assert "is running text" in invoke(*text, "--html", tmp_path / "p.html").line()
    assert "--errors replace" in invoke(*text, "--errors", "replace").line()
    assert json.loads(invoke(*text, "--model", shop / "run", "--json").out)["tokens"] > 0
    clean = invoke("data", "inspect", "--data", shop / "corpus")
    assert "nothing was found" in clean.out

import json
import subprocess
import sys

import pytest

from subgpt.errors import DataError, MissingFileError
from subgpt.quickstart import corpus as corpus_module
from subgpt.quickstart import python_corpus, question_pairs
from subgpt.quickstart.docstrings import Doc, source_docs
from subgpt.quickstart.questions import first_sentence, pairs_of
from subgpt.quickstart.texts import write_jsonl


@pytest.fixture(scope="module")
def corpus():
    return python_corpus()


@pytest.fixture(scope="module")
def pairs():
    return question_pairs()


def test_there_are_megabytes_of_it_and_its_size_is_told(corpus):
    assert corpus.text_bytes == sum(len(d.text.encode()) for d in corpus.documents)
    assert corpus.text_bytes > 2_000_000
    assert corpus.source_files > 200
    assert corpus.topics > 50
    assert corpus.describe().startswith(
        f"{corpus.source_files} library sources, {corpus.topics} reference topics: "
    )


def test_it_has_no_tests_and_nothing_installed_and_tells_no_machine(corpus):
    origins = [d.origin.file for d in corpus.documents]
    assert "json/decoder.py" in origins
    parts = [part for origin in origins for part in origin.split("/")]
    assert not {"test", "tests", "site-packages", "idlelib", "__pycache__", ""} & set(parts)
    assert not [origin for origin in origins if "\\" in origin]
    assert len(set(origins)) == len(origins)


def test_it_is_the_same_every_time(corpus, pairs):
    assert python_corpus() == corpus
    assert question_pairs() == pairs


def test_pairs_are_many_short_and_unlike_each_other(pairs):
    assert len(pairs) > 500
    for key in ("question", "answer"):
        assert len({row[key].lower() if key == "answer" else row[key] for row in pairs}) == len(pairs)
    for row in pairs:
        assert set(row) == {"question", "answer"}
        assert 15 <= len(row["answer"]) <= 160
        assert row["answer"].isprintable()
        assert row["answer"][-1] in ".!?"
        assert "\n" not in row["question"]
        assert "._" not in row["question"]


def test_well_known_pairs_are_there(pairs):
    answers = {row["question"]: row["answer"] for row in pairs}
    assert answers["What does len do?"] == "Return the number of items in a container."
    assert "path" in answers["What does os.path.join do?"]
    assert "What is the module json for?" in answers or "What does json.dumps do?" in answers


def test_without_sources_the_topics_and_docstrings_stand_in(tmp_path):
    bare = python_corpus(stdlib=tmp_path)
    assert bare.source_files == 0
    assert len(bare.documents) > bare.topics
    assert "docstrings" in bare.describe()
    assert len(question_pairs(stdlib=tmp_path / "nowhere")) > 100


def test_a_python_without_any_text_is_a_clear_error(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus_module, "topic_documents", list)
    monkeypatch.setattr(corpus_module, "builtin_docs", list)
    with pytest.raises(DataError, match=r"only 0 bytes of text .*subgpt pretrain --data"):
        python_corpus(stdlib=tmp_path)


def test_too_few_questions_are_a_clear_error(tmp_path, monkeypatch):
    monkeypatch.setattr("subgpt.quickstart.questions.builtin_docs", list)
    with pytest.raises(DataError, match=r"only 0 questions; .*-OO, .*subgpt finetune RUN --data"):
        question_pairs(stdlib=tmp_path)


def test_nothing_of_the_library_is_run():
    code = (
        "import sys; from subgpt.quickstart import question_pairs; question_pairs(); "
        "sys.exit([m for m in ('this', 'antigravity', 'turtle', 'tkinter') if m in sys.modules] or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@pytest.mark.parametrize(
    ("docstring", "sentence"),
    [
        ("Return the sum.", "Return the sum."),
        ("Return the sum", "Return the sum."),
        ("Return a,\n  i.e. the sum.  More.", "Return a, i.e. the sum."),
        ("Return J. Doe's sum.", "Return J. Doe's sum."),
        ("too small a head.", None),
        ("Short.", None),
        ("The following are known:", None),
        ("Return " + "very " * 40 + "much.", None),
        (">>> Return(1) # one two three.", None),
        ("Return the sum (of all.", None),
        ("Deprecated alias of the sum.", None),
        ("", None),
    ],
)
def test_first_sentences(docstring, sentence):
    assert first_sentence(docstring) == sentence


def test_repeated_and_private_names_are_left_out():
    docs = [
        Doc("a.b", "function", "Return the first thing."),
        Doc("a.b", "function", "Return another thing."),
        Doc("a.c", "function", "return the First thing.".capitalize()),
        Doc("a._d", "function", "Return a private thing."),
        Doc("a.b.c.d.e", "function", "Return a deep thing."),
        Doc("a.E", "class", "A thing of beauty."),
    ]
    assert list(pairs_of(docs)) == [
        {"question": "What does a.b do?", "answer": "Return the first thing."},
        {"question": "What is a.E?", "answer": "A thing of beauty."},
    ]


def test_a_broken_source_is_passed_over(tmp_path):
    path = tmp_path / "a.py"
    for text in ("def f(:", "\0", "x = " + "(" * 10_000):
        path.write_text(text, encoding="utf-8")
        assert list(source_docs(path, "a")) == []
    path.write_text(
        'try:\n  def f():\n    "Doc of f."\nexcept E: pass\nclass C:\n  def _g(): "x"\n', encoding="utf-8"
    )
    assert [d.name for d in source_docs(path, "a")] == ["a.f"]


def test_json_lines_are_written_whole(tmp_path):
    path = tmp_path / "a.jsonl"
    rows = [{"question": "ü\n?", "answer": "b"}, {"question": "c", "answer": "d"}]
    write_jsonl(path, rows)
    assert b"\r" not in path.read_bytes()
    assert [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] == rows

    def broken():
        yield rows[0]
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_jsonl(path, broken())
    assert [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] == rows
    assert [p.name for p in tmp_path.iterdir()] == ["a.jsonl"]
    with pytest.raises(MissingFileError, match=r"a\.jsonl"):
        write_jsonl(tmp_path / "nowhere" / "a.jsonl", rows)

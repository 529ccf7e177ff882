import os
import sys

import pytest

from subgpt.data.formats import find_row_files
from subgpt.data.sources import find_files
from subgpt.errors import DataError, MissingFileError

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX links, pipes or modes")


@pytest.fixture
def tree(tmp_path):
    for name in ("b.txt", "a/z.md", "a/b/c.py", "a.txt", ".hidden.txt", ".git/config"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name, encoding="utf-8")
    (tmp_path / "image.png").write_bytes(b"\x89PNG\0\0")
    return tmp_path


def names(found, root):
    return [path.relative_to(root).as_posix() for path in found.files]


def test_a_directory_is_read_recursively_in_order_and_what_is_skipped_is_counted(tree):
    found = find_files(tree)
    assert names(found, tree) == ["a/b/c.py", "a/z.md", "a.txt", "b.txt"]
    assert (found.hidden, found.binary, found.special) == (2, 1, 0)
    assert found.describe() == "4 files (skipped: 2 hidden, 1 binary)"


def test_a_glob_and_a_list_give_each_file_once(tree):
    assert names(find_files(str(tree / "**" / "*.md")), tree) == ["a/z.md"]
    found = find_files([tree / "b.txt", str(tree / "*.txt"), str(tree)])
    assert names(found, tree) == ["b.txt", "a.txt", "a/b/c.py", "a/z.md"]


def test_a_name_that_exists_is_no_glob(tree):
    (tree / "notes[1].txt").write_text("x", encoding="utf-8")
    assert names(find_files(str(tree / "notes[1].txt")), tree) == ["notes[1].txt"]


def test_a_named_hidden_file_is_read(tree):
    assert names(find_files(tree / ".hidden.txt"), tree) == [".hidden.txt"]


def test_missing_names_are_named(tree):
    with pytest.raises(MissingFileError, match=r"no such file or directory: .*nowhere\.txt"):
        find_files(tree / "nowhere.txt")
    with pytest.raises(FileNotFoundError, match="nothing matches"):
        find_files(str(tree / "*.rst"))
    with pytest.raises(MissingFileError, match=r"pass it in a list"):
        find_files("Once upon a time\nthere was")
    with pytest.raises(MissingFileError):
        find_files("x" * 5000)


def test_a_directory_without_text_is_an_error_that_tells_why(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"\0")
    with pytest.raises(DataError, match=r"no text files in .*1 binary"):
        find_files(tmp_path)


@pytest.mark.parametrize("bad", ["", "a\0b", b"bytes", 7, [], [7], None])
def test_what_is_no_path_is_refused(bad):
    with pytest.raises((DataError, TypeError)):
        find_files(bad)


def test_a_named_binary_file_is_refused_with_the_offset(tree):
    with pytest.raises(DataError, match=r"image\.png: a binary file \(NUL byte at offset 4\)"):
        find_files(tree / "image.png")


@posix
def test_loops_of_links_end_and_broken_links_are_counted(tree):
    (tree / "a" / "loop").symlink_to(tree, target_is_directory=True)
    (tree / "self").symlink_to(tree / "self")
    (tree / "dangling").symlink_to(tree / "nowhere")
    found = find_files(tree)
    assert names(found, tree) == ["a/b/c.py", "a/z.md", "a.txt", "b.txt"]
    assert found.special == 2
    for name in ("self", "dangling"):
        with pytest.raises(DataError, match="symbolic link"):
            find_files(tree / name)


@posix
@pytest.mark.timeout(10)
def test_a_pipe_is_skipped_in_a_directory_and_refused_by_name(tree):
    os.mkfifo(tree / "pipe")
    assert find_files(tree).special == 1
    with pytest.raises(DataError, match="not a regular file"):
        find_files(tree / "pipe")


def test_an_unreadable_file_or_directory_is_an_error_even_in_a_directory(tree, monkeypatch):
    # Refused by a stand-in, because a superuser may read everything and Windows has no such modes.
    def refuse(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(type(tree), "open", refuse)
        with pytest.raises(
            DataError, match=r"c\.py: cannot be read \(Permission denied\); check its permissions"
        ):
            find_files(tree)
    monkeypatch.setattr(type(tree), "iterdir", refuse)
    with pytest.raises(DataError, match="the directory cannot be read"):
        find_files(tree)


def test_a_very_deep_tree_does_not_meet_the_recursion_limit(tmp_path):
    path = tmp_path
    for _ in range(60):
        path = path / "d"
    path.mkdir(parents=True)
    (path / "a.txt").write_text("deep", encoding="utf-8")
    limit = sys.getrecursionlimit()
    assert len(find_files(tmp_path).files) == 1
    assert sys.getrecursionlimit() == limit


@pytest.mark.parametrize("wrong", [None, 5, b"notes.txt"])
@pytest.mark.parametrize("find", [find_files, find_row_files])
def test_what_is_neither_a_path_nor_a_list_is_refused(find, wrong):
    with pytest.raises(DataError, match="a path, or a list of paths, is expected"):
        find(wrong)

"""Where a quickstart writes: a directory with its mark, so that only its own results are ever replaced."""

import shutil
from pathlib import Path

from subgpt.errors import OutputError

MARKER = ".subgpt-quickstart"
PARTS = ("corpus", "tokenizer", "base", "qa", "loss.png", "loss.svg", "report.html")


def prepare(out: Path) -> Path:
    """Make `out` ready: new, or emptied of an earlier quickstart's results; other files in it stay.

    A directory that holds anything and does not carry the mark is refused.
    """
    try:
        if out.exists() and not out.is_dir():
            raise OutputError(f"{out}: is a file; name a directory with --output-dir")
        if out.is_dir() and any(out.iterdir()) and not (out / MARKER).is_file():
            raise OutputError(
                f"{out}: holds files that are not a quickstart's; name another with --output-dir, or remove it"
            )
        out.mkdir(parents=True, exist_ok=True)
        (out / MARKER).write_text("made by subgpt quickstart; replaced by the next one\n", encoding="utf-8")
        for name in PARTS:
            _remove(out / name)
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(
            f"{out}: {error.strerror}; name a directory that can be written with --output-dir"
        ) from error
    return out


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)

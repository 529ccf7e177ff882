"""100 MB of text to time tokenizers on, gathered from what this machine has.

English prose (the shared corpora and documentation), web pages and source code, in equal parts as far as they go. Files
are taken in an order that a fixed seed shuffles, each content once, cut to whole files, so that the same machine
gives the same corpus. It is cached in the temporary directory.
"""

from __future__ import annotations

import hashlib
import random
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
SIZE = 100_000_000
_LARGEST = 1_000_000
_KINDS: dict[str, tuple[str, ...]] = {
    "prose": (".md", ".rst", ".txt"),
    "web": (".html", ".htm"),
    "code": (".py", ".rs", ".c", ".h", ".js", ".ts"),
}
_ROOTS = (
    SHARED / "corpora",
    Path(sysconfig.get_paths()["stdlib"]),
    Path(sysconfig.get_paths()["purelib"]),
    Path.home() / ".cargo" / "registry" / "src",
    Path.home() / ".rustup" / "toolchains",
    Path("/usr/share/doc"),
    Path("/usr/include"),
)


def documents(size: int = SIZE) -> list[str]:
    """Give texts of `size` bytes together, or of all there is, kinds mixed."""
    cache = Path(tempfile.gettempdir()) / f"subgpt-bench-corpus-{size}.txt"
    if not cache.exists():
        texts = _gather(size)
        partial = cache.with_suffix(".partial")
        partial.write_bytes("\0".join(texts).encode())
        partial.rename(cache)
    # Some peers recognise special tokens in any text, and then give other ids.
    return [text for text in cache.read_bytes().decode().split("\0") if "<|endof" not in text]


def _gather(size: int) -> list[str]:
    by_kind = {kind: _files(suffixes) for kind, suffixes in _KINDS.items()}
    taken: list[str] = []
    sizes = dict.fromkeys(by_kind, 0)
    seen: set[bytes] = set()
    while by_kind and sum(sizes.values()) < size:
        kind = min(by_kind, key=lambda k: sizes[k])
        path = next(by_kind[kind], None)
        if path is None:
            del by_kind[kind]
            continue
        data = path.read_bytes()
        digest = hashlib.sha256(data).digest()
        if digest in seen or b"\0" in data:
            continue
        try:
            taken.append(data.decode())
        except UnicodeDecodeError:
            continue
        seen.add(digest)
        sizes[kind] += len(data)
    random.Random(1).shuffle(taken)
    return taken


def _files(suffixes: tuple[str, ...]) -> Iterator[Path]:
    found = []
    for root in _ROOTS:
        files = sorted(
            p for p in root.rglob("*") if p.suffix in suffixes and p.is_file() and not p.is_symlink()
        )
        random.Random(1).shuffle(files)
        # The shared corpora first and whole; of each other root no more than its share of files.
        found.append([p for p in files if 500 <= p.stat().st_size <= 2 * _LARGEST])
    shared, *others = found
    yield from shared
    longest = max(map(len, others), default=0)
    for i in range(longest):
        for files in others:
            if i < len(files):
                yield files[i]


if __name__ == "__main__":
    texts = documents()
    print(f"{len(texts)} documents, {sum(len(t.encode()) for t in texts) / 1e6:.1f} MB")

"""What a tokenizer does to a text, in numbers: how far it compresses, and what its vocabulary is made of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from subgpt.tokenizer.arguments import integer
from subgpt.tokenizer.prefixes import entry_prefixes

if TYPE_CHECKING:
    from subgpt.data.decoding import Errors
    from subgpt.data.documents import DocumentSource
    from subgpt.tokenizer.tokenizer import Tokenizer

_BATCH = 1 << 23  # characters that are encoded together, so that a corpus may be larger than memory
_LEAST_ROOT, _LONGEST_AFFIX, _EXAMPLES = 4, 6, 4
_COMMON = 30  # prefixes, and suffixes, that make a root of what they are put to


@dataclass(frozen=True)
class Entry:
    """One entry of a vocabulary, and how often it was used.

    Attributes:
        id: Its id.
        bytes: What it stands for inside of a text.
        uses: How often it is in the text.

    """

    id: int
    bytes: bytes
    uses: int


@dataclass(frozen=True)
class Part:
    """A part of words that a vocabulary has found.

    Attributes:
        text: The part.
        words: How many words are made with it.
        examples: Some of them, cut: ``"walk+ing"``.

    """

    text: str
    words: int
    examples: tuple[str, ...]


@dataclass(frozen=True)
class Statistics:
    """What `statistics` finds.

    Attributes:
        vocab_size: Rows of the vocabulary.
        tokens: Tokens of the text.
        bytes: Bytes of the text in UTF-8.
        characters: Characters of the text.
        single_bytes: Tokens of the text that stand for one byte.
        unknown: Tokens of the text that stand for what has no entry.
        dead: Ids of the entries that the text does not use, special tokens and gaps left out.
        longest: The entries with most bytes, longest first, special tokens left out.
        prefixes: The commonest beginnings of words.
        suffixes: The commonest ends of words.
        roots: The stems that most words are made from.

    """

    vocab_size: int
    tokens: int
    bytes: int
    characters: int
    single_bytes: int
    unknown: int
    dead: npt.NDArray[np.int64]
    longest: tuple[Entry, ...]
    prefixes: tuple[Part, ...]
    suffixes: tuple[Part, ...]
    roots: tuple[Part, ...]

    @property
    def bytes_per_token(self) -> float:
        """How far the text is compressed; NaN without tokens."""
        return self.bytes / self.tokens if self.tokens else float("nan")

    @property
    def characters_per_token(self) -> float:
        """The same in characters."""
        return self.characters / self.tokens if self.tokens else float("nan")

    @property
    def single_byte_share(self) -> float:
        """Which part of the tokens stands for one byte, in [0, 1]."""
        return self.single_bytes / self.tokens if self.tokens else float("nan")


def statistics(
    tokenizer: Tokenizer,
    source: DocumentSource,
    *,
    text_field: str = "text",
    errors: Errors = "strict",
    most: int = 10,
    progress: Callable[[int, int], None] | None = None,
) -> Statistics:
    """Measure what ``tokenizer`` does to a text.

    Prefixes, suffixes and roots are read off the entries that the text uses. Words are those that are a space and
    letters, or where none is, those of letters; case does not count. A word that is another one (the root, at
    least four letters) with up to six letters more has those as its prefix (two letters at least) or suffix. Roots
    are counted with the commonest prefixes and suffixes only.

    Args:
        tokenizer: The tokenizer.
        source: A text file, a directory, a glob, a list of these, or an iterable of str; the rules are those of
            `subgpt.data.read_documents`, so ``<|endoftext|>`` between documents is not counted.
        text_field: The key of the text in ``.jsonl`` files.
        errors: Bytes that are no text are refused (``"strict"``) or become U+FFFD (``"replace"``).
        most: How many of the longest entries, prefixes, suffixes and roots to give.
        progress: Called with ``(done, 0)``: bytes of text that were measured.

    Raises:
        DataError: There is no text, or it is unreadable.
        MissingFileError: There is no such file.
        InvalidValueError: ``most`` is below 0.

    >>> from subgpt import Tokenizer
    >>> tok = Tokenizer.train(["low lower lowest"], vocab_size=260)
    >>> seen = statistics(tok, ["low lower"])
    >>> seen.tokens, seen.bytes, round(seen.bytes_per_token, 2)
    (4, 9, 2.25)

    """
    from subgpt.data.documents import read_documents

    most = integer("most", most, 0)
    uses = np.zeros(tokenizer.vocab_size, dtype=np.int64)
    size = characters = 0
    documents = read_documents(source, text_field=text_field, errors=errors)
    for texts in _batches(document.text for document in documents):
        ids, _ = tokenizer.encode_batch(texts, disallowed_special=())
        uses += np.bincount(ids, minlength=len(uses))
        size += sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
        characters += sum(map(len, texts))
        if progress is not None:
            progress(size, 0)
    entries = entry_prefixes(tokenizer).entries
    lengths = np.fromiter(map(len, entries), dtype=np.int64, count=len(entries))
    ordinary = lengths > 0
    longest = np.flatnonzero(ordinary)[np.argsort(-lengths[ordinary], kind="stable")[:most]]
    unknown = tokenizer.unk_id
    parts = word_parts(entries[i] for i in np.flatnonzero(ordinary & (uses > 0)))
    return Statistics(
        vocab_size=tokenizer.vocab_size,
        tokens=int(uses.sum()),
        bytes=size,
        characters=characters,
        single_bytes=int(uses[ordinary & (lengths == 1)].sum()),
        unknown=0 if unknown is None else int(uses[unknown]),
        dead=np.flatnonzero(ordinary & (uses == 0)),
        longest=tuple(Entry(int(i), entries[i], int(uses[i])) for i in longest),
        prefixes=_commonest(parts.prefixes, most),
        suffixes=_commonest(parts.suffixes, most),
        roots=_commonest(parts.roots, most),
    )


class WordParts(NamedTuple):
    """Prefixes, suffixes and roots, each with the words that are made with it, cut by a +."""

    prefixes: dict[str, list[str]]
    suffixes: dict[str, list[str]]
    roots: dict[str, list[str]]


def word_parts(entries: Iterable[bytes]) -> WordParts:
    """Find the prefixes, suffixes and roots of the words among ``entries``, by the rule of `statistics`.

    >>> word_parts([b" walk", b" Walked", b" unwalk", b"ed"])
    WordParts(prefixes={'un': ['un+walk']}, suffixes={'ed': ['walk+ed']}, roots={'walk': ['walk+ed', 'un+walk']})

    """
    words = _words(entries)
    prefixes: dict[str, list[str]] = defaultdict(list)
    suffixes: dict[str, list[str]] = defaultdict(list)
    for word in words:
        for cut in range(1, len(word)):
            head, tail = word[:cut], word[cut:]
            if len(head) >= _LEAST_ROOT and len(tail) <= _LONGEST_AFFIX and head in words:
                suffixes[tail].append(f"{head}+{tail}")
            if len(tail) >= _LEAST_ROOT and 2 <= len(head) <= _LONGEST_AFFIX and tail in words:
                prefixes[head].append(f"{head}+{tail}")
    roots: dict[str, list[str]] = defaultdict(list)
    for affixes, side in ((suffixes, 0), (prefixes, -1)):
        for affix in _most_words(affixes, _COMMON):
            for word in affixes[affix]:
                roots[word.split("+")[side]].append(word)
    return WordParts(dict(prefixes), dict(suffixes), dict(roots))


def _words(entries: Iterable[bytes]) -> dict[str, None]:
    """Choose the words among entries, in lower case, each once and in the order of the vocabulary."""
    texts = [entry.decode("utf-8", "replace") for entry in entries]
    spaced = [text[1:] for text in texts if text.startswith(" ") and text[1:].isalpha()]
    return dict.fromkeys(text.lower() for text in (spaced or texts) if text.isalpha())


def _most_words(parts: dict[str, list[str]], most: int) -> list[str]:
    """Choose the parts with most words, those with the earliest entries first where they are level."""
    return sorted(parts, key=lambda part: -len(parts[part]))[:most]


def _commonest(parts: dict[str, list[str]], most: int) -> tuple[Part, ...]:
    chosen = _most_words(parts, most)
    return tuple(Part(text, len(parts[text]), tuple(parts[text][:_EXAMPLES])) for text in chosen)


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    """Gather texts until they are worth the threads that encode them."""
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= _BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch

"""`Tokenizer`: text to ids and back. A thin object over the native one, which does the work."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from subgpt import _core
from subgpt.errors import DataError, DtypeError, InvalidValueError, TokenizerError

if TYPE_CHECKING:
    from subgpt.data.documents import DocumentSource

Level: TypeAlias = Literal["char", "word", "subword"]
Errors: TypeAlias = Literal["replace", "strict"]
Ids: TypeAlias = "npt.NDArray[np.integer[Any]] | Sequence[int]"
Specials: TypeAlias = 'Literal["all"] | Iterable[str]'

_ID_LIMIT = 2**32 - 1


class Tokenizer:
    """A vocabulary with everything needed to turn text into ids and ids into text.

    Three levels: ``"char"`` (every character is an entry), ``"word"`` (words, single spaces, single
    punctuation marks) and ``"subword"`` (byte-level BPE). At every level decoding gives back exactly the text
    that was encoded, but for characters and words that are not in the vocabulary: those become ``<unk>``.
    Subwords know no such thing: any text round-trips.

    Make one with `train`, `load` or `from_json`. It never changes, so it can be shared by threads, copied,
    pickled, compared and hashed.

    >>> tok = Tokenizer.train(["a rose is a rose is a rose"], vocab_size=280)
    >>> ids = tok.encode("a rose is red")
    >>> ids.dtype, tok.decode(ids)
    (dtype('uint32'), 'a rose is red')
    >>> tok.tokens("a rose")
    ['a', ' rose']
    """

    __slots__ = ("_native",)
    _native: _core.Tokenizer

    def __init__(self) -> None:
        raise TypeError("make a Tokenizer with Tokenizer.train, Tokenizer.load or Tokenizer.from_json")

    @classmethod
    def _wrap(cls, native: _core.Tokenizer) -> Tokenizer:
        self = object.__new__(cls)
        self._native = native
        return self

    # --- making one ---

    @classmethod
    def train(
        cls,
        source: DocumentSource,
        *,
        level: Level = "subword",
        vocab_size: int | None = None,
        pattern: str = "gpt4",
        special_tokens: Iterable[str] = ("<|endoftext|>",),
        min_frequency: int = 1,
        max_token_length: int | None = None,
        text_field: str = "text",
        errors: Errors = "strict",
        progress: Callable[[int, int], None] | None = None,
    ) -> Tokenizer:
        """Train a tokenizer.

        The same text and options give the same tokenizer, whatever the number of threads. Special tokens
        found in the text separate what is around them and are not learned from.

        Args:
            source: A text file, a directory, a glob, a list of these, or an iterable of str, each a document;
                the rules are those of `subgpt.data.read_documents`. UTF-8 files are read block by block and
                may be larger than memory. A byte order mark is dropped, line ends are kept.
            level: ``"char"``, ``"word"`` or ``"subword"``.
            vocab_size: Entries, special tokens included. For subwords at least 256 and the special tokens; a
                text that supports fewer gives fewer. For words the most frequent are kept. For characters a
                cap that must hold all of them. None: 8192, for characters as many as there are.
            pattern: How text is split before subwords are learned: ``"gpt2"``, ``"gpt4"`` (also
                ``"cl100k"``), ``"o200k"``, or a regular expression.
            special_tokens: Names that get the last ids, in this order. ``<unk>`` is added at levels char and
                word.
            min_frequency: Characters, words or pairs seen less often are left out.
            max_token_length: Longest subword in bytes; None: any.
            text_field: The key of the text in ``.jsonl`` files.
            errors: What to do about bytes that are no text: ``"strict"`` raises a DataError with file and byte
                offset, as `pretrain` does; ``"replace"`` puts U+FFFD.
            progress: Called with ``(done, total)``: bytes counted, of a total of 0, then merges made.

        Raises:
            DataError: The corpus is empty or unreadable, or not text.
            MissingFileError: There is no such file.
            InvalidValueError: An option cannot be.
            DtypeError: The source yields something else than str.

        >>> Tokenizer.train(["to be or not to be"], level="word").tokens("to be!")
        ['to', ' ', 'be', '<unk>']
        >>> Tokenizer.train(["abc"], level="char", special_tokens=()).special_tokens
        {'<unk>': 3}

        """
        options = {
            "level": _text("level", level),
            "vocab_size": _count("vocab_size", vocab_size, 1),
            "pattern": _text("pattern", pattern),
            "special_tokens": _names("special_tokens", special_tokens),
            "min_frequency": _count("min_frequency", min_frequency, 0) or 0,
            "max_token_length": _count("max_token_length", max_token_length, 1),
        }
        paths, texts = _open(source, _text("text_field", text_field), errors)
        try:
            return cls._wrap(_core.Tokenizer.train(paths, texts, options, errors, progress))
        except DataError as error:
            if not paths or any(path in str(error) for path in paths):
                raise
            more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
            raise DataError(f"{paths[0]}{more}: {error}") from None

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        pattern: str | None = None,
        special_tokens: Mapping[str, int] | Iterable[str] | None = None,
    ) -> Tokenizer:
        """Load a tokenizer file, or a directory that holds one.

        - Hugging Face's ``tokenizer.json``, ours or others' (byte-level BPE; what is not implemented is
          named);
        - ``vocab.json`` + ``merges.txt``, or ``encoder.json`` + ``vocab.bpe``: name either, or the directory;
        - tiktoken's ``*.tiktoken`` ranks, whose special tokens are known for r50k, p50k, cl100k and o200k.

        Args:
            path: The file or directory.
            pattern: As in `train`, for files that do not say: ranks (by default from the file's name) and
                vocabulary with merges (by default GPT-2's).
            special_tokens: For the same files, in place of the known ones: names with ids, or names that are
                numbered after the vocabulary.

        Raises:
            TokenizerError: The file is damaged, or describes something that is not implemented.
            MissingFileError: There is no such file.

        """
        native = _core.Tokenizer.load(
            _path(path),
            None if pattern is None else _text("pattern", pattern),
            None if special_tokens is None else list(_numbered(special_tokens)),
        )
        return cls._wrap(native)

    @classmethod
    def from_json(cls, json: str) -> Tokenizer:
        """Read the text of a ``tokenizer.json``, as `to_json` gives it."""
        if _has_surrogate(_text("json", json)):
            raise TokenizerError("json: contains a lone surrogate, which is no character")
        return cls._wrap(_core.Tokenizer.from_json(json))

    def to_json(self) -> str:
        """Give the text of a ``tokenizer.json``."""
        return self._native.to_json()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write ``tokenizer.json`` and ``tokenizer_config.json`` into the directory ``path``.

        The directory is made if need be. A path that ends in ``.json`` is written as that one file. A file is
        there whole or not at all. The ``tokenizers`` and ``transformers`` libraries load what is written, and
        give the same ids.
        """
        self._native.save(_path(path))

    # --- text to ids ---

    def encode(
        self,
        text: str,
        *,
        allowed_special: Specials = (),
        disallowed_special: Specials = "all",
        errors: Errors = "replace",
    ) -> npt.NDArray[np.uint32]:
        """Turn ``text`` into ids, shape (n,), uint32.

        Special tokens follow tiktoken's rules, so that user data cannot smuggle one in.

        Args:
            text: The text.
            allowed_special: Special tokens to recognise, or ``"all"``.
            disallowed_special: Special tokens that raise when the text contains them; ``"all"``: all that are
                not allowed. With ``()`` they are ordinary text.
            errors: Characters and words without an entry become ``<unk>`` (``"replace"``) or raise
                (``"strict"``); likewise lone surrogates, which become U+FFFD.

        Raises:
            TokenizerError: A disallowed special token, or with ``"strict"`` what has no entry.

        >>> tok = Tokenizer.train(["some text"], vocab_size=257)
        >>> tok.encode("hi<|endoftext|>", allowed_special="all").tolist()
        [104, 105, 256]

        """
        allowed, disallowed = _allowance(allowed_special, disallowed_special)
        return self._native.encode(text, allowed, disallowed, _text("errors", errors))

    def encode_ordinary(self, text: str) -> npt.NDArray[np.uint32]:
        """Turn ``text`` into ids, shape (n,), uint32, with special tokens taken as ordinary text."""
        return self._native.encode(text, [], [], "replace")

    def encode_batch(
        self,
        texts: Iterable[str],
        *,
        allowed_special: Specials = (),
        disallowed_special: Specials = "all",
        errors: Errors = "replace",
    ) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint64]]:
        """Turn many texts into ids on all threads.

        Returns:
            Ids, shape (n,), uint32, and offsets, shape (len(texts) + 1,), uint64: text ``i`` has
            ``ids[offsets[i]:offsets[i + 1]]``. Arguments and errors are those of `encode`.

        >>> tok = Tokenizer.train(["some text"], vocab_size=257)
        >>> ids, offsets = tok.encode_batch(["so", "", "me"])
        >>> offsets.tolist()
        [0, 2, 2, 4]

        """
        if isinstance(texts, (str, bytes)) or not isinstance(texts, Iterable):
            raise DtypeError(f"texts must be an iterable of str, not {type(texts).__name__}")
        allowed, disallowed = _allowance(allowed_special, disallowed_special)
        return self._native.encode_batch(list(texts), allowed, disallowed, _text("errors", errors))

    def tokens(
        self, text: str, *, allowed_special: Specials = (), disallowed_special: Specials = "all"
    ) -> list[str]:
        """Show the entries that ``text`` is cut into: `id_to_token` of every id that `encode` gives.

        >>> Tokenizer.train(["aa ab"], level="char").tokens("a b")
        ['a', ' ', 'b']
        """
        ids = self.encode(text, allowed_special=allowed_special, disallowed_special=disallowed_special)
        return cast("list[str]", self._native.ids_to_tokens(ids))

    # --- ids to text ---

    def decode(self, ids: Ids, errors: Literal["replace", "strict", "ignore"] = "replace") -> str:
        """Turn ids, any integer dtype, shape (n,), into text; special tokens into their names.

        Args:
            ids: The ids. One in a gap of the vocabulary gives U+FFFD.
            errors: Bytes that are not UTF-8 (an incomplete character) become U+FFFD, raise, or are left out.

        Raises:
            InvalidValueError: An id beyond the vocabulary.
            TokenizerError: With ``"strict"``, bytes that are not UTF-8.

        """
        if errors not in ("replace", "strict", "ignore"):
            raise InvalidValueError(f"errors is {errors!r}; known are 'replace', 'strict' and 'ignore'")
        data = self._native.decode_bytes(ids)
        try:
            return data.decode("utf-8", errors)
        except UnicodeDecodeError as error:
            raise TokenizerError(
                f"ids: byte {error.start} of the {len(data)} that they stand for is not UTF-8 "
                f'({error.reason}); decode whole characters, or pass errors="replace"'
            ) from None

    def decode_bytes(self, ids: Ids) -> bytes:
        """Turn ids, any integer dtype, shape (n,), into the bytes that they stand for."""
        return self._native.decode_bytes(ids)

    def decode_stream(self) -> DecodeStream:
        """Make a decoder that takes ids one by one, for text that is shown while it is generated."""
        return DecodeStream(self)

    # --- the vocabulary ---

    @property
    def vocab_size(self) -> int:
        """One more than the largest id: the rows that an embedding needs."""
        return self._native.vocab_size

    def token_to_id(self, token: str) -> int | None:
        """Find the id of an entry, given as `id_to_token` gives it; None if there is no such entry."""
        return None if _has_surrogate(_text("token", token)) else self._native.token_to_id(token)

    def id_to_token(self, id: int) -> str | None:
        """Show the entry of an id.

        An entry that is no text by itself (a part of a character) is shown by its bytes, as
        ``<0xE2><0x82>``. None where the vocabulary has a gap.

        Raises:
            InvalidValueError: The id is beyond the vocabulary.

        """
        number = _count("id", id, 0, self.vocab_size - 1)
        return self._native.ids_to_tokens([cast("int", number)])[0]

    @property
    def special_tokens(self) -> dict[str, int]:
        """Special tokens with their ids, in the order of ids."""
        return dict(self._native.special_tokens)

    @property
    def eot_id(self) -> int | None:
        """The id of ``<|endoftext|>``, which ends a document; None if there is none."""
        return self._native.eot_id

    @property
    def unk_id(self) -> int | None:
        """The id of what is not in the vocabulary; None for subwords."""
        return self._native.unk_id

    @property
    def level(self) -> Level:
        """``"char"``, ``"word"`` or ``"subword"``."""
        return cast("Level", self._native.level)

    @property
    def pattern(self) -> str | None:
        """The split: ``"gpt2"``, ``"gpt4"``, ``"o200k"``, a regular expression, or None where several."""
        return self._native.pattern

    @property
    def fingerprint(self) -> str:
        """A hash (64 hexadecimal digits) of all that decides about ids; the same after saving and loading."""
        return self._native.fingerprint

    def __len__(self) -> int:
        return self.vocab_size

    def __repr__(self) -> str:
        pattern = f", pattern={self.pattern!r}" if self.level == "subword" else ""
        return f"<Tokenizer level={self.level!r}, vocab_size={self.vocab_size}{pattern}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Tokenizer):
            return NotImplemented
        return self._native is other._native or self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __reduce__(self) -> tuple[Any, ...]:
        return (Tokenizer.from_json, (self.to_json(),))

    def __copy__(self) -> Tokenizer:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Tokenizer:
        return self


class DecodeStream:
    """Ids to text one by one: a character that is not complete yet is held back.

    >>> tok = Tokenizer.train(["x"], vocab_size=257)
    >>> stream = tok.decode_stream()
    >>> [stream.push(int(id)) for id in tok.encode("né")], stream.flush()
    (['n', '', 'é'], '')
    """

    __slots__ = ("_decoder", "_tokenizer")

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = _core.Utf8Decoder()

    def push(self, id: int) -> str:
        """Add one id; return the text that is now complete."""
        return self._decoder.push(self._tokenizer.decode_bytes([id]))

    def flush(self) -> str:
        """End the text: return U+FFFD if a character is incomplete, else nothing."""
        return self._decoder.flush()


def _open(source: DocumentSource, text_field: str, errors: Errors) -> tuple[list[str], Iterable[str]]:
    """Sort a source into plain UTF-8 files, which the core reads, and texts that Python reads."""
    from subgpt.data.documents import documents_of, open_source
    from subgpt.data.sources import FoundFiles

    opened = open_source(source)
    if not isinstance(opened, FoundFiles):
        return [], opened
    plain = [path for path in opened.files if _is_plain(path)]
    others = FoundFiles(tuple(path for path in opened.files if path not in set(plain)))
    if not others.files:
        return [str(path) for path in plain], ()
    documents = documents_of(others, text_field=text_field, errors=errors, separator=None)
    return [str(path) for path in plain], (document.text for document in documents)


def _is_plain(path: os.PathLike[str]) -> bool:
    from pathlib import Path

    from subgpt.data.decoding import UTF16_BOMS
    from subgpt.data.jsonl import is_jsonl

    if is_jsonl(Path(path)) or Path(path).suffix.lower() == ".gz":
        return False
    with Path(path).open("rb") as file:
        return not file.read(4).startswith((*UTF16_BOMS, b"\0\0\xfe\xff"))


def _path(path: str | os.PathLike[str]) -> str:
    name = os.fspath(path) if isinstance(path, (str, os.PathLike)) else path
    if not isinstance(name, str):
        raise DtypeError(f"path must be str or a path, not {type(name).__name__}")
    return name


def _text(what: str, value: str) -> str:
    if not isinstance(value, str):
        raise DtypeError(f"{what} must be str, not {type(value).__name__}")
    return value


def _names(what: str, values: Iterable[str]) -> list[str]:
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise DtypeError(f"{what} must be an iterable of str, not {type(values).__name__} ({values!r})")
    names = [_text(f"{what}[{i}]", value) for i, value in enumerate(values)]
    for name in names:
        if _has_surrogate(name):
            raise InvalidValueError(f"{what}: {name!r} contains a lone surrogate, which is no character")
    return names


def _numbered(specials: Mapping[str, int] | Iterable[str]) -> Iterator[tuple[str, int | None]]:
    ids = specials if isinstance(specials, Mapping) else {}
    for name in _names("special_tokens", specials):
        yield name, _count(f"special_tokens[{name!r}]", ids.get(name), 0, _ID_LIMIT)


def _count(what: str, value: int | None, least: int, most: int = 2**63 - 1) -> int | None:
    if value is None and what != "id":
        return None
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise DtypeError(f"{what} must be int, not {type(value).__name__}")
    if not least <= value <= most:
        raise InvalidValueError(f"{what} is {value}; it must be between {least} and {most}")
    return int(value)


def _allowance(allowed: Specials, disallowed: Specials) -> tuple[list[str] | None, list[str] | None]:
    def which(what: str, names: Specials) -> list[str] | None:
        return None if isinstance(names, str) and names == "all" else _names(what, names)

    return which("allowed_special", allowed), which("disallowed_special", disallowed)


def _has_surrogate(text: str) -> bool:
    return not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text)

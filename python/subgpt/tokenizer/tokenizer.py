"""`Tokenizer`: text to ids and back. A thin object over the native one, which does the work."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast, overload

import numpy as np
import numpy.typing as npt

from subgpt import _core
from subgpt.errors import DtypeError, TokenizerError
from subgpt.tokenizer import saving
from subgpt.tokenizer.arguments import (
    check_place,
    has_surrogate,
    integer,
    numbered,
    path_argument,
    special_rules,
    text_argument,
)
from subgpt.tokenizer.results import DecodeStream, Located
from subgpt.tokenizer.training import TrainOptions, train

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from subgpt.data.documents import DocumentSource
    from subgpt.tokenizer.arguments import Specials
    from subgpt.tokenizer.saving import Format

Level: TypeAlias = Literal["char", "word", "subword"]
Errors: TypeAlias = Literal["replace", "strict"]
Ids: TypeAlias = "npt.NDArray[np.integer[Any]] | Sequence[int]"


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

    @overload
    @classmethod
    def train(
        cls, source: DocumentSource, *, vocab_size: int | None = None, **options: Unpack[TrainOptions]
    ) -> Tokenizer: ...

    @overload
    @classmethod
    def train(
        cls, source: DocumentSource, *, vocab_size: Sequence[int], **options: Unpack[TrainOptions]
    ) -> list[Tokenizer]: ...

    @classmethod
    def train(
        cls,
        source: DocumentSource,
        *,
        level: Level = "subword",
        vocab_size: int | Sequence[int] | None = None,
        pattern: str = "gpt4",
        special_tokens: Iterable[str] = ("<|endoftext|>",),
        min_frequency: int = 1,
        max_token_length: int | None = None,
        limit_alphabet: int | None = None,
        max_memory: int | None = None,
        text_field: str = "text",
        errors: Errors = "strict",
        progress: Callable[[int, int], None] | None = None,
    ) -> Tokenizer | list[Tokenizer]:
        """Train a tokenizer.

        The same text and options give the same tokenizer, whatever the number of threads. Special tokens
        found in the text separate what is around them and are not learned from. Of pairs that are equally
        frequent the one with the smallest ids is merged, the left one first.

        Args:
            source: A text file, a directory, a glob, a list of these, or an iterable of str, each a document;
                the rules are those of `subgpt.data.read_documents`. UTF-8 files are read block by block and
                may be larger than memory. A byte order mark is dropped, line ends are kept.
            level: ``"char"``, ``"word"`` or ``"subword"``.
            vocab_size: Entries, special tokens included. For subwords at least 256 and the special tokens; a
                text that supports fewer gives fewer. For words the most frequent are kept. For characters a
                cap that must hold all of them. None: 8192, for characters as many as there are. A list gives
                a list of tokenizers for the time of the largest: the merges of 32k begin with those of 8k.
            pattern: How text is split before subwords are learned: ``"gpt2"``, ``"gpt4"`` (also
                ``"cl100k"``), ``"o200k"``, or a regular expression.
            special_tokens: Names that get the last ids, in this order. ``<unk>`` is added at levels char and
                word.
            min_frequency: Characters, words or pairs seen less often are left out.
            max_token_length: Longest subword in bytes; None: any.
            limit_alphabet: At levels char and word: know that many of the most frequent characters only, and
                no words with others; None: all.
            max_memory: Bytes of memory to keep to, about, 16 MiB or more; None: as much as it takes. Counts
                that do not fit go to the temporary directory and stay exact. Where even the distinct pieces
                do not fit in the end, the rarest are left out, with a warning that says how many.
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
        >>> [len(t) for t in Tokenizer.train(["a rose is a rose"], vocab_size=[258, 260])]
        [258, 260]

        """
        sizes = (
            [vocab_size] if vocab_size is None or isinstance(vocab_size, (int, np.integer)) else vocab_size
        )
        options = TrainOptions(
            level=level,
            pattern=pattern,
            special_tokens=special_tokens,
            min_frequency=min_frequency,
            max_token_length=max_token_length,
            limit_alphabet=limit_alphabet,
            max_memory=max_memory,
            text_field=text_field,
            errors=errors,
            progress=progress,
        )
        wrapped = [cls._wrap(native) for native in train(source, sizes, options)]
        return wrapped if sizes is vocab_size else wrapped[0]

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        pattern: str | None = None,
        special_tokens: Mapping[str, int] | Iterable[str] | None = None,
    ) -> Tokenizer:
        """Load a tokenizer file, or a directory that holds one.

        - Hugging Face's ``tokenizer.json``, ours or others'; what is not implemented in it is named;
        - SentencePiece's ``*.model`` (BPE), llama2.c's ``tokenizer.bin``, llama.cpp's ``*.gguf``;
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
        if path_argument(path).lower().endswith(".gguf"):
            from subgpt.tokenizer.gguf import load_gguf

            if pattern is not None or special_tokens is not None:
                raise TokenizerError(
                    f"{path_argument(path)}: carries its own pattern and special tokens; "
                    "leave pattern and special_tokens out"
                )
            return load_gguf(path_argument(path))
        check_place(path_argument(path))
        native = _core.Tokenizer.load(
            path_argument(path),
            None if pattern is None else text_argument("pattern", pattern),
            None if special_tokens is None else list(numbered(special_tokens)),
        )
        return cls._wrap(native)

    @classmethod
    def from_json(cls, json: str) -> Tokenizer:
        """Read the text of a ``tokenizer.json``, as `to_json` gives it."""
        if has_surrogate(text_argument("json", json)):
            raise TokenizerError("json: contains a lone surrogate, which is no character")
        return cls._wrap(_core.Tokenizer.from_json(json))

    def to_json(self) -> str:
        """Give the text of a ``tokenizer.json``."""
        return self._native.to_json()

    def save(self, path: str | os.PathLike[str], *, format: Format | None = None) -> None:
        """Write a tokenizer file, whole or not at all.

        Args:
            path: A directory, which is made if need be, or a file that ends in ``.json``, ``.tiktoken`` or
                ``.gguf``.
            format: ``"tokenizer.json"`` (Hugging Face's, with ``tokenizer_config.json`` in a directory: the
                ``tokenizers`` and ``transformers`` libraries load it; of a SentencePiece model that it cannot
                hold a directory gets the ``tokenizer.model``), ``"tiktoken"`` (ranks, without pattern and
                special tokens), ``"vocab-merges"`` (``vocab.json`` and ``merges.txt``, likewise) or ``"gguf"``.
                None: by the ending of a file, for a directory ``"tokenizer.json"``.

        Raises:
            TokenizerError: The format cannot hold this tokenizer, which the message explains. Or the directory
                holds a file that `load` would take in place of what is written.
            OutputError: It cannot be written there.

        """
        target = Path(path_argument(path))
        chosen = saving.format_of(target) if format is None else text_argument("format", format)
        saving.save(self, target, cast("Format", chosen))

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
        return self._native.encode(text, special_rules(allowed_special, disallowed_special, errors))

    def encode_ordinary(self, text: str) -> npt.NDArray[np.uint32]:
        """Turn ``text`` into ids, shape (n,), uint32, with special tokens taken as ordinary text."""
        return self._native.encode(text, ([], [], "replace"))

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
        return self._native.encode_batch(texts, special_rules(allowed_special, disallowed_special, errors))

    def encode_with_offsets(
        self,
        text: str,
        *,
        allowed_special: Specials = (),
        disallowed_special: Specials = "all",
        errors: Errors = "replace",
    ) -> Located:
        """Turn ``text`` into ids, and say which part of it each id stands for.

        Returns:
            A named tuple: ``ids``, shape (n,), uint32; ``bytes``, shape (n, 2), uint64: start and end of each
            token in the UTF-8 of ``text``; ``chars``, the same in characters: all of those that the token has a
            byte of: a character that is split over tokens is in the span of each. So also where text is normalized.
            Arguments are those of `encode`.

        Raises:
            TokenizerError: As in `encode`. Or tokens have no places, since the tokenizer leaves out bytes that it
                has no token for.

        >>> tok = Tokenizer.train(["x"], vocab_size=257)
        >>> tok.encode_with_offsets("aé").chars.tolist()
        [[0, 1], [1, 2], [1, 2]]

        """
        return Located(
            *self._native.encode_located(text, special_rules(allowed_special, disallowed_special, errors))
        )

    def encode_file(
        self,
        path: str | os.PathLike[str],
        output: str | os.PathLike[str],
        *,
        shard_tokens: int = 100_000_000,
        allowed_special: Specials = (),
        disallowed_special: Specials = "all",
        errors: Errors = "strict",
        progress: Callable[[int, int], None] | None = None,
    ) -> list[Path]:
        """Turn a UTF-8 text file of any size into token shards, which `subgpt.data.read_shard` maps into memory.

        The file is read block by block, or whole if the tokenizer changes text before it cuts it (at most 4 GB,
        then), puts a space before it, cuts it in several steps other than digits first, or by a regular expression
        of one's own. Ids are those of the whole text.

        Args:
            path: The text file.
            output: The directory that ``00000.bin``, ``00001.bin``, … are written to. Shards of an earlier call
                there are removed.
            shard_tokens: Ids in a shard, at most.
            allowed_special: As in `encode`.
            disallowed_special: As in `encode`.
            errors: What to do about bytes that are not UTF-8 and text without an entry: ``"strict"`` or
                ``"replace"``.
            progress: Called with ``(done, total)`` in bytes of the file.

        Returns:
            The files that were written.

        Raises:
            TokenizerError: As in `encode`, naming the file.
            DataError: With ``"strict"``, bytes that are not UTF-8.
            MissingFileError: There is no such file.

        """
        rules = special_rules(allowed_special, disallowed_special, errors)
        size = integer("shard_tokens", shard_tokens, 1)
        paths, _ = self._native.encode_file(path_argument(path), path_argument(output), size, rules, progress)
        return [Path(shard) for shard in paths]

    def count(
        self,
        text: str,
        *,
        allowed_special: Specials = (),
        disallowed_special: Specials = "all",
        errors: Errors = "replace",
    ) -> int:
        """Count the ids that `encode` gives. Arguments and errors are those of `encode`.

        >>> Tokenizer.train(["x"], vocab_size=257).count("né")
        3
        """
        return self._native.count(text, special_rules(allowed_special, disallowed_special, errors))

    def count_file(
        self,
        path: str | os.PathLike[str],
        *,
        allowed_special: Specials = (),
        disallowed_special: Specials = "all",
        errors: Errors = "strict",
        progress: Callable[[int, int], None] | None = None,
    ) -> int:
        """Count the ids of a UTF-8 text file of any size, which is read as by `encode_file`.

        Arguments and errors are those of `encode_file`.
        """
        rules = special_rules(allowed_special, disallowed_special, errors)
        return self._native.count_file(path_argument(path), rules, progress)

    def truncate(
        self,
        text: str,
        max_tokens: int,
        *,
        allowed_special: Specials = (),
        disallowed_special: Specials = "all",
        errors: Errors = "replace",
    ) -> str:
        """Cut ``text`` where its first ``max_tokens`` ids end.

        A character that only a later id completes is left out. A text of no more ids is given as it is. What follows is
        not encoded, unless ids stand for something else than is written: normalized text, or ``<unk>``. The other
        arguments are those of `encode`, and errors in that case those of `encode_with_offsets`.

        >>> Tokenizer.train(["x"], vocab_size=257).truncate("naïve", 3)
        'na'

        """
        most = integer("max_tokens", max_tokens, 0)
        rules = special_rules(allowed_special, disallowed_special, errors)
        ids = self._native.encode_front(text, most + 1, rules)
        if len(ids) <= most:
            return text
        front = self.decode(ids[:most], errors="ignore")
        known = self.unk_id is None or not (ids[:most] == self.unk_id).any()
        if known and text.startswith(front):  # a text may spell what stands for the unknown
            return front
        places = self._native.encode_located(text, rules)[2]
        return text[: int(places[most:, 0].min())]

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
        return self._native.decode(ids, text_argument("errors", errors))

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
        return None if has_surrogate(text_argument("token", token)) else self._native.token_to_id(token)

    def id_to_token(self, id: int) -> str | None:
        """Show the entry of an id.

        An entry that is no text by itself (a part of a character) is shown by its bytes, as
        ``<0xE2><0x82>``. None where the vocabulary has a gap.

        Raises:
            InvalidValueError: The id is beyond the vocabulary.

        """
        return self._native.ids_to_tokens([integer("id", id, 0, self.vocab_size - 1)])[0]

    @property
    def special_tokens(self) -> dict[str, int]:
        """Special tokens with their ids, in the order of ids."""
        return dict(self._native.special_tokens)

    @property
    def template(self) -> tuple[list[int], list[int]]:
        """The ids that the file says belong before and after a text, as ``<s>``; `encode` leaves them out."""
        return self._native.template

    @property
    def eot_id(self) -> int | None:
        """The id of ``<|endoftext|>``, which ends a document; None if there is none."""
        return self._native.eot_id

    @property
    def unk_id(self) -> int | None:
        """The id of what is not in the vocabulary; None if there is none, as for subwords of bytes."""
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
        return (_restored, self._native.portable())

    def __copy__(self) -> Tokenizer:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Tokenizer:
        return self


def _restored(name: str, data: bytes) -> Tokenizer:
    """Make a tokenizer of the file that it was pickled as."""
    return Tokenizer._wrap(_core.Tokenizer.restore(name, data))

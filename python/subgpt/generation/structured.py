"""Output that a regular expression, a JSON schema or a grammar accepts: which tokens may follow (extra `structured`).

llguidance reads the grammar and says for every token of the vocabulary whether it may follow; the native sampler rules
the others out before it draws. A text is never finished against its grammar: it ends where the grammar lets it, or at
max_new_tokens, or with an error.
"""

import importlib
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from subgpt.errors import ConfigError, InvalidValueError, MissingExtraError
from subgpt.generation.prompt import end_ids

if TYPE_CHECKING:
    from subgpt.generation.config import GenerationConfig
    from subgpt.tokenizer import Tokenizer

# Between the parts of JSON: small models that may write any number of spaces write nothing else.
_JSON = {"whitespace_pattern": r"\n? {0,16}"}
_LONGEST = 300
"""Characters of llguidance's reasons that are passed on."""


class Matcher:
    """How far a text has come in its grammar.

    Raises MissingExtraError where llguidance is not installed, ConfigError if it cannot use the grammar or
    nothing fulfils it.
    """

    def __init__(self, tokenizer: "Tokenizer", settings: "GenerationConfig") -> None:
        self._name = settings.structure or ""
        llguidance = _llguidance("", self._name)
        self._vocab_size = tokenizer.vocab_size
        self._ends = _inside(tokenizer, tuple(end_ids(tokenizer, settings)))
        self._mask: bytes | None = None
        self._native = llguidance.LLMatcher(
            _vocabulary(tokenizer, tuple(end_ids(tokenizer, settings))), _grammar(settings), log_level=0
        )
        if self._native.is_error():
            # The reason repeats the whole expression, in lines of its own.
            reason = self._native.get_error().strip().splitlines()[0][:_LONGEST]
            raise ConfigError(f"GenerationConfig: {self._name} cannot be used: {reason}")

    @property
    def is_done(self) -> bool:
        """Whether the grammar is fulfilled and lets nothing follow."""
        if self._native.is_error() or not self._native.is_accepting():
            return False
        return bool(self._native.is_stopped()) or not any(self._allowed())

    def mask(self) -> bytes:
        """Give a bit for every id, set where it may come next; InvalidValueError if none may."""
        mask = self._allowed()
        if not any(mask):
            raise self._stuck()
        return mask

    def push(self, id: int) -> None:
        """Go on with a token that the mask lets."""
        self._mask = None
        if not self._native.consume_token(id):
            reason = self._reason()
            if "forced bytes" in reason:  # which no token has: llguidance lets others then, and refuses them
                raise self._stuck()
            raise InvalidValueError(f"{self._name}: too much to keep track of{reason}; simplify it")

    def _stuck(self) -> InvalidValueError:
        return InvalidValueError(
            f"{self._name}: no token of the vocabulary goes on with what is required after the text so far"
            f"{self._reason()}; the tokenizer has no entries for it: give another {self._name} or tokenizer"
        )

    def _allowed(self) -> bytes:
        """Give the mask; in it no end of text but one that the grammar lets and the tokenizer has.

        llguidance proposes an end of text as well where the vocabulary has nothing that could follow.
        """
        if self._mask is None:
            never = [self._vocab_size] if self._native.is_accepting() else [self._vocab_size, *self._ends]
            mask = bytearray(self._native.compute_bitmask())
            for id in never:
                mask[id // 8] &= ~(1 << id % 8) & 0xFF
            self._mask = bytes(mask)
        return self._mask

    def _reason(self) -> str:
        said = self._native.get_error().strip().splitlines()
        return f" ({said[0]})" if said and not said[0].startswith("<") else ""


def anchor(tokenizer: "Tokenizer") -> int:
    """Find an id that is text by itself: after it a decoder does not take what follows for the beginning of a text."""
    special = set(tokenizer.special_tokens.values())
    ids = (id for id in range(tokenizer.vocab_size) if id not in special)
    return next((id for id in ids if tokenizer.decode_stream().push(id).strip()), 0)


def _grammar(settings: "GenerationConfig") -> str:
    """Write what is asked for in llguidance's own form."""
    write = _llguidance().LLMatcher
    if settings.regex is not None:
        return str(write.grammar_from_regex(settings.regex))
    if settings.json_schema is not None:
        try:
            return str(write.grammar_from_json_schema(settings.json_schema, defaults=_JSON))
        except (TypeError, ValueError) as error:
            raise ConfigError(f"GenerationConfig: json_schema is not JSON: {error}") from None
    to_lark = _llguidance(".gbnf_to_lark").any_to_lark
    try:
        return str(write.grammar_from_lark(to_lark(settings.grammar)))
    except Exception as error:  # the converter of GBNF has errors of its own, and plain ones
        raise ConfigError(f"GenerationConfig: grammar is neither Lark nor GBNF: {error}") from None


@lru_cache(maxsize=4)
def _vocabulary(tokenizer: "Tokenizer", ends: tuple[int, ...]) -> Any:
    """Give llguidance the bytes of every token, and the ids that end a text.

    It wants one such id. Where there is none, one behind the vocabulary stands for it, which is never drawn.
    """
    wrapper = _llguidance("._tokenizer").TokenizerWrapper(_Entries(tokenizer, ends))
    return _llguidance().LLTokenizer(
        wrapper, n_vocab=tokenizer.vocab_size + 1, eos_token=_inside(tokenizer, ends)
    )


def _inside(tokenizer: "Tokenizer", ends: tuple[int, ...]) -> list[int]:
    return [id for id in ends if id < tokenizer.vocab_size] or [tokenizer.vocab_size]


class _Entries:
    """A tokenizer as llguidance's wrapper takes it."""

    def __init__(self, tokenizer: "Tokenizer", ends: tuple[int, ...]) -> None:
        inside = _inside(tokenizer, ends)
        self.tokens = [*tokenizer._native.token_bytes(), b"<end>"]
        self.special_token_ids = sorted({*tokenizer.special_tokens.values(), *inside, tokenizer.vocab_size})
        self.eos_token_id = inside[0]
        self.bos_token_id = None
        self._tokenizer = tokenizer
        special = set(self.special_token_ids)
        self._ids = {text: id for id, text in enumerate(self.tokens) if text and id not in special}
        self._longest = max(map(len, self._ids), default=0)

    def __call__(self, text: bytes) -> list[int]:
        """Cut text that must come next as the tokenizer would, or by its longest entries.

        The latter where the tokenizer would write something else, such as <unk>, or a space in front.
        """
        try:
            ids = self._tokenizer.encode_ordinary(text.decode()).tolist()
        except UnicodeDecodeError:
            return self._by_longest(text)
        special = not {*self.special_token_ids}.isdisjoint(ids)
        same = b"".join(self.tokens[id] for id in ids) == text
        return ids if same and not special else self._by_longest(text)

    def _by_longest(self, text: bytes) -> list[int]:
        """Cut text by the longest entry at each place, up to where there is none."""
        ids, at = list[int](), 0
        while at < len(text):
            lengths = range(min(self._longest, len(text) - at), 0, -1)
            length = next((n for n in lengths if text[at : at + n] in self._ids), 0)
            if length == 0:
                break
            ids.append(self._ids[text[at : at + length]])
            at += length
        return ids


def _llguidance(module: str = "", needed_by: str | None = None) -> Any:
    try:
        return importlib.import_module("llguidance" + module)
    except ImportError:
        raise MissingExtraError(f'{needed_by} needs llguidance: pip install "subgpt[structured]"') from None

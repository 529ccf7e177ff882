"""When an answer counts as right: as a text, or as a number."""

import re
from decimal import Decimal
from typing import Literal, TypeAlias

Match: TypeAlias = Literal["exact", "number", "tokens"]
"""How answers are compared: as texts, by their number, or token by token as the model foretells them."""

_PUNCTUATION = ".,;:!?…"
# Thousands may be parted by commas; a minus belongs to a number unless something is subtracted.
_NUMBER = re.compile(r"(?:(?<![\w)])[-−])?\$?(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?")
_RESULT = "####"
"""What grade-school problems (GSM8K) write before the result."""


def normalised(text: str) -> str:
    r"""Write a text without what does not matter in an answer: case, white space, punctuation at its end.

    >>> normalised(" The  Old\nHouse. "), normalised("?!")
    ('the old house', '?!')
    """
    plain = " ".join(text.casefold().split())
    return plain.rstrip(_PUNCTUATION + " ") or plain


def same_text(answer: str, expected: str) -> bool:
    """Tell whether two answers are the same text, see `normalised`."""
    return normalised(answer) == normalised(expected)


def number_in(text: str) -> Decimal | None:
    r"""Find the number that an answer comes to: that after ``####``, else the last one; None if there is none.

    >>> number_in("He has 3 + 4 = 7 apples, $1,200.50 in all."), number_in("so 6.\n#### 6\nThen 9")
    (Decimal('1200.50'), Decimal('6'))
    """
    _, marked, result = text.partition(_RESULT)
    found = _NUMBER.findall(result if marked else text)
    if not found:
        return None
    chosen = found[0] if marked else found[-1]
    return Decimal(chosen.replace("$", "").replace(",", "").replace("−", "-"))


def same_number(answer: str, expected: str) -> bool:
    """Tell whether two answers come to the same number; without one they do not.

    >>> same_number("#### 7.0", "It is 7."), same_number("none", "none")
    (True, False)
    """
    number = number_in(answer)
    return number is not None and number == number_in(expected)

"""Guesses which ISBN was meant by a value that is none. A guess is shown, and never taken by itself."""

import re

from enrichment.isbn.parsing import InvalidIsbn, Reason, compact, parse, with_check_digit
from enrichment.isbn.scanning import scan

MAX_ZEROS_LOST = 3
"""Maximum number of zeros in front that an ISBN-10 is given back."""
_SHORT = re.compile(rf"[0-9]{{{9 - MAX_ZEROS_LOST},8}}[0-9X]")
_NUMBER = re.compile(r"[0-9]{13}|[0-9]{9}[0-9X]")
_LOOKALIKES = str.maketrans("OIL", "011")
_MAX_LENGTH = 40
"""Longer texts are not guessed at."""


def suggest(value: str, reason: Reason) -> str | None:
    """The ISBN that was probably meant, with 10 or 13 digits like the value; None: no guess.

    `reason`: why the value is invalid. Tried are, in this order: zeros that are missing in front, letters that look
    like digits, two digits next to each other in the wrong order, and a wrong check digit.
    """
    if len(value) > _MAX_LENGTH or reason is Reason.DIGITS_LOST:
        return None
    parts = scan(value)
    number = _digits(parts[0] if len(parts) == 1 else value)
    if reason is Reason.WRONG_LENGTH:
        return number.zfill(10) if with_zeros(number) else None
    if reason is Reason.NOT_AN_ISBN:
        number = number.translate(_LOOKALIKES)
        return number if _is_isbn(number) else None
    if not _NUMBER.fullmatch(number):
        return None
    swapped = {one for one in _swapped(number) if _is_isbn(one)}
    return swapped.pop() if len(swapped) == 1 else with_check_digit(number)


def with_zeros(value: str) -> str | None:
    """The ISBN-13 of an SBN, or of an ISBN-10 without up to MAX_ZEROS_LOST zeros in front; None: it is none."""
    number = _digits(value)
    try:
        return parse(number.zfill(10)) if _SHORT.fullmatch(number) else None
    except InvalidIsbn:
        return None


def _digits(value: str) -> str:
    """Without separators, label, quotes and the `.0` of a spreadsheet."""
    return re.sub(r"^(?:URN:)?ISBN(?:1[03](?=.{10}))?:?|[.,]0*$", "", compact(value).strip("\"'=()[]."))


def _swapped(number: str) -> list[str]:
    """The numbers that have two neighbours in the other order. The prefix of an ISBN-13 stays as it is."""
    first = 3 if len(number) == 13 else 0
    return [
        number[:at] + number[at + 1] + number[at] + number[at + 2 :]
        for at in range(first, len(number) - 1)
        if number[at] != number[at + 1] and number[at + 1] != "X"
    ]


def _is_isbn(number: str) -> bool:
    try:
        parse(number)
    except InvalidIsbn:
        return False
    return True

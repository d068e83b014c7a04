"""Parses ISBNs in the many forms that people and data feeds use. The result is always an ISBN-13."""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from operator import mul

from stdnum import isbn
from stdnum.exceptions import InvalidChecksum


class Reason(StrEnum):
    """Why a value is not a valid ISBN. The API shows these words."""

    WRONG_CHECK_DIGIT = "wrong check digit"
    WRONG_LENGTH = "wrong length"
    NOT_AN_ISBN = "not an ISBN"


class InvalidIsbn(ValueError):
    """The value is not a valid ISBN; `reason` says why."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class InvalidEntry:
    """An invalid value, as text that any JSON answer can hold, and the reason."""

    isbn: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class ParsedIsbns:
    valid: list[str] = field(default_factory=list)
    invalid: list[InvalidEntry] = field(default_factory=list)


# Applied after `_compact`. The number of digits decides whether `10` belongs to the label: in `ISBN 1036…` the number
# begins with 1036, in `ISBN10 036…` with 036.
_ISBN = re.compile(r"(?:(?:URN:)?ISBN(?:1[03])?:?)?([0-9]{13}|[0-9]{9}[0-9X])")
_DIGITS = re.compile(r"(?:(?:URN:)?ISBN(?:1[03])?:?)?[0-9]+X?")
# What library catalogues (MARC 21, field 020) write after an ISBN: a qualifier in brackets, or a price after a colon.
_CATALOGUED = re.compile(r"(?<=[0-9Xx])\s*(\(.*\)|\[.*\]|\s:\s.*)?[\s.,;:/]*$", re.DOTALL)
_PUNCTUATION = " \t\r\n.,;:()[]\"'"
_MAX_CATALOGUED_LENGTH = 200
# Dashes, white space, control characters, and invisible ones such as the byte order mark and the soft hyphen.
_SEPARATOR_CATEGORIES = {"Pd", "Zs", "Zl", "Zp", "Cc", "Cf"}
_OTHER_DASHES = "−⁃˗"  # minus sign, hyphen bullet, modifier letter minus
_BOOKLAND = ("978", "979")
_WEIGHTS = (1, 3) * 6  # of the first 12 digits
_MUSIC = "9790"  # ISMN: sheet music


def parse(value: str | int) -> str:
    """Returns the 13 digits of the ISBN-13 for an ISBN-10 or ISBN-13 in any usual form.

    It accepts hyphens, spaces, Unicode dashes and digits, invisible characters, `ISBN-13:`, `urn:isbn:`, a lower-case
    x, and what catalogues write after the number: `(pbk.)`, ` : $20.00`, a full stop. An int of 7 to 9 digits is an
    ISBN-10 without its leading zeros; a text is never padded.

    Raises InvalidIsbn. 13 digits that do not begin with 978 or 979, or that begin with 979-0 (music), are "not an
    ISBN", even when their check digit is right.
    """
    number = _from_number(value) if isinstance(value, int) else _from_text(value)
    if len(number) == 10:
        try:
            return str(isbn.validate(number, convert=True))
        except InvalidChecksum:
            raise InvalidIsbn(Reason.WRONG_CHECK_DIGIT) from None
    if not number.startswith(_BOOKLAND) or number.startswith(_MUSIC):
        raise InvalidIsbn(Reason.NOT_AN_ISBN)
    if _check_digit(number) != number[-1]:
        raise InvalidIsbn(Reason.WRONG_CHECK_DIGIT)
    return number


def parse_many(values: Iterable[str | int]) -> ParsedIsbns:
    """Returns the ISBN-13s in order and without duplicates, and the invalid values with duplicates."""
    valid: dict[str, None] = {}
    invalid: list[InvalidEntry] = []
    for value in values:
        try:
            valid[parse(value)] = None
        except InvalidIsbn as error:
            invalid.append(InvalidEntry(isbn=_printable(value), reason=error.reason))
    return ParsedIsbns(valid=list(valid), invalid=invalid)


def corrected(value: str) -> str | None:
    """Returns a value with a wrong check digit as an ISBN with the right one, with 10 or 13 digits like the value.

    None for a valid value, and for a value that is invalid for another reason. The result can be a different book,
    because the wrong digit can be another one than the check digit.
    """
    try:
        parse(value)
    except InvalidIsbn as error:
        if error.reason is Reason.WRONG_CHECK_DIGIT:
            number = _from_text(value)
            body = number[:-1] if len(number) == 13 else f"978{number[:-1]}"
            isbn13 = f"{body}{_check_digit(body)}"
            return isbn13 if len(number) == 13 else to_isbn10(isbn13)
    return None


def to_isbn10(isbn13: str) -> str | None:
    """Returns the ISBN-10 of a valid ISBN-13 of 13 digits; None for 979, which has no ISBN-10."""
    if not isbn13.startswith("978"):
        return None
    body = isbn13[3:12]  # computed here, because isbn.to_isbn10 validates again, and that is slow for a whole batch
    check = sum(map(mul, range(1, 10), map(int, body))) % 11
    return body + ("X" if check == 10 else str(check))


def _check_digit(number: str) -> str:
    """The check digit of an ISBN-13, of which the first 12 digits suffice. stdnum's function takes twice as long."""
    return str(-sum(map(mul, _WEIGHTS, map(int, number))) % 10)


def _from_number(value: int) -> str:
    if isinstance(value, bool) or value < 0:
        raise InvalidIsbn(Reason.NOT_AN_ISBN)
    if not 10**6 <= value < 10**13:  # before str(), which raises for thousands of digits
        raise InvalidIsbn(Reason.WRONG_LENGTH)
    number = str(value).zfill(10)
    if len(number) not in {10, 13}:
        raise InvalidIsbn(Reason.WRONG_LENGTH)
    return number


def _from_text(value: str) -> str:
    compact = _compact(value)
    if match := _ISBN.fullmatch(compact) or _ISBN.fullmatch(_compact(_bare(value))):
        return match[1]
    raise InvalidIsbn(Reason.WRONG_LENGTH if _DIGITS.fullmatch(compact) else Reason.NOT_AN_ISBN)


def _bare(value: str) -> str:
    """The value without what catalogues write after a number; "" when it is too long to come from a catalogue."""
    return _CATALOGUED.sub("", value).strip(_PUNCTUATION) if len(value) <= _MAX_CATALOGUED_LENGTH else ""


def _compact(value: str) -> str:
    """The value in upper case, with ASCII digits and without separators."""
    if value.isascii():
        return value.translate(_PLAIN_ASCII).upper()
    return "".join(_plain(character) for character in unicodedata.normalize("NFKC", value)).upper()


def _plain(character: str) -> str:
    if unicodedata.category(character) in _SEPARATOR_CATEGORIES or character in _OTHER_DASHES:
        return ""
    digit = unicodedata.decimal(character, None)
    return character if digit is None else str(digit)


_PLAIN_ASCII = str.maketrans({character: _plain(character) for character in map(chr, range(128))})
"""A table for ASCII, because a list of 100,000 ISBNs has over a million characters."""


def _printable(value: str | int) -> str:
    if isinstance(value, int):
        return str(value) if abs(value) < 10**30 else f"{value:#x}"
    return value.encode("utf-8", "replace").decode("utf-8")  # JSON cannot hold a lone surrogate

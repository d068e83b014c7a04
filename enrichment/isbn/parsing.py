"""Parses an ISBN in the many forms that people and data feeds use. The result is always an ISBN-13."""

import re
import unicodedata
from collections.abc import Callable
from enum import StrEnum
from operator import mul


class Reason(StrEnum):
    """Why a value is not a valid ISBN. The API shows these words."""

    WRONG_CHECK_DIGIT = "wrong check digit"
    WRONG_LENGTH = "wrong length"
    NOT_AN_ISBN = "not an ISBN"
    DIGITS_LOST = "digits lost in a spreadsheet"


class InvalidIsbn(ValueError):
    """The value is not a valid ISBN; `reason` says why."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason


# Applied after `_compact`. The number of digits decides whether `10` belongs to the label: in `ISBN 1036…` the number
# begins with 1036, in `ISBN10 036…` with 036. A bar code can have an add-on of two or five digits, such as the price.
_LABEL = r"(?:(?:URN:)?ISBN(?:1[03])?:?)?"
_ISBN = re.compile(_LABEL + r"([0-9]{13}|[0-9]{9}[0-9X])")
_WITH_ADD_ON = re.compile(_LABEL + r"(97[89][0-9]{10})\+?(?:[0-9]{2}|[0-9]{5})")
_DIGITS = re.compile(_LABEL + r"[0-9]+X?")
_FLOAT = re.compile(r"([0-9]+)[.,]0*")
_SCIENTIFIC = re.compile(r"([1-9])(?:[.,]([0-9]*))?E\+?([0-9]{1,2})")
MANY_ZEROS = "000000"
"""A number that ends so and has a wrong check digit was probably in scientific notation."""
# What library catalogues (MARC 21, field 020) write after an ISBN: a qualifier in brackets, or a price after a colon.
_CATALOGUED = re.compile(r"(?<=[0-9Xx])\s*(\(.*\)|\[.*\]|\s:\s.*)?[\s.,;:/]*$", re.DOTALL)
_PUNCTUATION = " \t\r\n.,;:()[]\"'="  # with `="…"`, which makes a spreadsheet take a number as text
_MAX_CATALOGUED_LENGTH = 200
_MAX_LENGTH = 1000
"""Longer texts are none, whatever is in them."""
# Dashes, white space, control characters, and invisible ones such as the byte order mark and the soft hyphen.
_SEPARATOR_CATEGORIES = {"Pd", "Zs", "Zl", "Zp", "Cc", "Cf"}
_OTHER_DASHES = "−⁃˗"  # minus sign, hyphen bullet, modifier letter minus
_BOOKLAND = ("978", "979")
_WEIGHTS = (1, 3) * 6  # of the first 12 digits
_MUSIC = "9790"  # ISMN: sheet music


def parse(value: str | int | float) -> str:
    """Returns the 13 digits of the ISBN-13 for an ISBN-10 or ISBN-13 in any usual form.

    It accepts hyphens, spaces, Unicode dashes and digits, invisible characters, `ISBN-13:`, `urn:isbn:`, a lower-case
    x, what catalogues write after the number (`(pbk.)`, ` : $20.00`, a full stop), the add-on of a bar code, and what
    spreadsheets make of an ISBN: `="…"`, `9780441172719.0`. A number of 7 to 9 digits is an ISBN-10 without its leading
    zeros; a text is never padded.

    Raises InvalidIsbn. 13 digits that do not begin with 978 or 979, or that begin with 979-0 (music), are "not an
    ISBN", even when their check digit is right. A text with two ISBNs is none: see `reading`.
    """
    number = _from_text(value) if isinstance(value, str) else _from_number(value)
    if len(number) == 10:
        if _check_digit_10(number) != number[-1]:
            raise InvalidIsbn(Reason.WRONG_CHECK_DIGIT)
        number = f"978{number[:9]}"
        return number + _check_digit(number)
    if not number.startswith(_BOOKLAND) or number.startswith(_MUSIC):
        raise InvalidIsbn(Reason.NOT_AN_ISBN)
    if _check_digit(number) != number[-1]:
        lost = isinstance(value, float) and number.endswith(MANY_ZEROS)
        raise InvalidIsbn(Reason.DIGITS_LOST if lost else Reason.WRONG_CHECK_DIGIT)
    return number


def with_check_digit(number: str) -> str:
    """The ISBN-10 or ISBN-13 in capitals and without separators, with the right check digit instead of its last one.

    When that makes a valid ISBN of an invalid one, it can be a different book: the wrong digit can be another one.
    """
    if len(number) == 13:
        return number[:-1] + _check_digit(number)
    return number[:-1] + _check_digit_10(number)


def to_isbn10(isbn13: str) -> str | None:
    """Returns the ISBN-10 of a valid ISBN-13 of 13 digits; None for 979, which has no ISBN-10."""
    if not isbn13.startswith("978"):
        return None
    body = isbn13[3:12]
    return body + _check_digit_10(body)


def has_digits(text: str, count: int) -> bool:
    """Whether there are so many digits, at least, in the text."""
    return re.match(rf"(?:\D*+\d){{{count}}}", text) is not None


def compact(value: str) -> str:
    """The value in upper case, with ASCII digits and without separators."""
    if value.isascii():
        return value.translate(_PLAIN_ASCII).upper()
    return unicodedata.normalize("NFKC", value).translate(Translation(_plain)).upper()


def _check_digit(number: str) -> str:
    """The check digit of an ISBN-13, of which the first 12 digits suffice."""
    return str(-sum(map(mul, _WEIGHTS, map(int, number))) % 10)


def _check_digit_10(number: str) -> str:
    """The check digit of an ISBN-10, of which the first 9 digits suffice."""
    check = sum(map(mul, range(1, 10), map(int, number[:9]))) % 11
    return "X" if check == 10 else str(check)


def _from_number(value: float) -> str:
    if isinstance(value, bool) or value < 0 or value % 1:  # the last is true of NaN, too
        raise InvalidIsbn(Reason.NOT_AN_ISBN)
    if not 10**6 <= value < 10**13:  # before str(), which raises for thousands of digits
        raise InvalidIsbn(Reason.WRONG_LENGTH)
    number = str(int(value)).zfill(10)
    if len(number) not in {10, 13}:
        raise InvalidIsbn(Reason.WRONG_LENGTH)
    return number


def _from_text(value: str) -> str:
    if len(value) in {10, 13} and value.isdigit() and value.isascii():  # most of a long list
        return value
    if len(value) > _MAX_LENGTH:
        raise InvalidIsbn(Reason.NOT_AN_ISBN)
    plain = compact(value)
    if match := _ISBN.fullmatch(plain):
        return match[1]
    plain = _exact(compact(_bare(value))) or plain
    if match := _ISBN.fullmatch(plain) or _WITH_ADD_ON.fullmatch(plain):
        return match[1]
    raise InvalidIsbn(Reason.WRONG_LENGTH if _DIGITS.fullmatch(plain) else Reason.NOT_AN_ISBN)


def _bare(value: str) -> str:
    """The value without what catalogues write after a number.

    "" when it is too long to come from a catalogue, or when another ISBN can follow the first.
    """
    if len(value) > _MAX_CATALOGUED_LENGTH:
        return ""
    tail = _CATALOGUED.search(value)
    if tail and sum(map(str.isdigit, tail[0])) >= 9:
        return ""
    return _CATALOGUED.sub("", value).strip(_PUNCTUATION)


def _exact(number: str) -> str:
    """The digits of a number that a spreadsheet wrote as `9780441172719.0` or `9.780441172719E+12`.

    Raises InvalidIsbn when it has left out digits: `9.78E+12`.
    """
    if match := _FLOAT.fullmatch(number):
        return match[1]
    if match := _SCIENTIFIC.fullmatch(number):
        digits, length = match[1] + (match[2] or ""), int(match[3]) + 1
        if len(digits) != length:
            raise InvalidIsbn(Reason.DIGITS_LOST)
        return digits
    return number


def _plain(character: str) -> str:
    if unicodedata.category(character) in _SEPARATOR_CATEGORIES or character in _OTHER_DASHES:
        return ""
    digit = unicodedata.decimal(character, None)
    return character if digit is None else str(digit)


class Translation(dict[int, str]):
    """A table for `str.translate` that looks at each different character of a text once."""

    def __init__(self, plain: Callable[[str], str]) -> None:
        self.plain = plain

    def __missing__(self, code: int) -> str:
        self[code] = found = self.plain(chr(code))
        return found


_PLAIN_ASCII = str.maketrans({character: _plain(character) for character in map(chr, range(128))})
"""A table for ASCII, because a list of 100,000 ISBNs has over a million characters."""

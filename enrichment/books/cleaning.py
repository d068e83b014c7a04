"""Rules that turn an untidy JSON value from ISBNdb into a clean one. They accept any value and never raise.

Every text is trimmed, of invisible characters too, and its HTML entities are decoded once: `&amp;amp;` is `&amp;`.
"""

import html
import html.entities
import re
from collections.abc import Collection
from datetime import date
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Literal

from enrichment.books.match_keys import name_key
from enrichment.isbn.parsing import InvalidIsbn, parse, to_isbn10

DatePrecision = Literal["", "day", "month", "year"]

_MAX_PAGES = 100_000
_MAX_PRICE = 1_000_000
_FIRST_YEAR, _LAST_YEAR = 1400, 2100
_MAX_NUMBER = 10**30
_PAGES = re.compile(r"^([0-9]{1,6})(?:\.0+)?$|(?<![-.0-9])([0-9]{1,6}) ?p(?:ages?|p)?\b", re.IGNORECASE)
_THOUSANDS = re.compile(r"(?<=[0-9]),(?=[0-9]{3}(?![0-9]))")
_AMOUNT = re.compile(r"-?[0-9][0-9.,]*")
_DECIMAL_COMMA = re.compile(r",[0-9]{1,2}$")
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_TAG = re.compile(r"</?[a-z][a-z0-9]*(?:\s[^<>]*)?/?>", re.IGNORECASE)
_BLANK = "".join(filter(str.isspace, map(chr, range(0x3001)))) + "\u00ad\u200b\u200e\u200f\u2060\ufeff"
"""White space and what has no width."""
_LINK = re.compile(r"https?://\S+$", re.IGNORECASE)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = (
    r"(?P<month>jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?"
    r"|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)[ .,/-]+"
)
_DAY = r"\b(?P<day>[0-9]{1,2})(?:st|nd|rd|th)?[ .,/-]+"
_YEAR = r"(?P<year>[0-9]{4})(?![0-9])"
_DATE_FORMS = [
    re.compile(form, re.IGNORECASE)
    for form in (
        r"^(?P<year>[0-9]{4})(?:[-/.](?P<month>[0-9]{1,2})(?:[-/.](?P<day>[0-9]{1,2}))?)?(?![0-9])",  # 2023-10-05T…
        r"^(?P<year>[0-9]{4})(?P<month>[0-9]{2})(?P<day>[0-9]{2})?(?![0-9])",  # 20231005
        rf"{_DAY}{_MONTH}{_YEAR}",  # 5 October 2023
        rf"\b{_MONTH}(?:{_DAY})?{_YEAR}",  # October 5, 2023; October 2023
        r"(?<![0-9])(?P<year>1[4-9][0-9]{2}|20[0-9]{2})(?![0-9])",  # c1998; 05/10/2023, where the day is ambiguous
    )
]


def text(value: object) -> str:
    """Trims a text and decodes its entities, and turns a number into text. "" for anything else."""
    written = as_sent(value)
    return _trimmed(_ENTITY.sub(_character, written)) if "&" in written else written


def prose(value: object) -> str:
    """The same for a long text, which can be HTML: then its entities are a part of it, and stay."""
    written = as_sent(value)
    return written if _TAG.search(written) else text(written)


def as_sent(value: object) -> str:
    """Trims a text, and turns a number into text. "" for anything else."""
    if isinstance(value, str):
        return _trimmed(value)
    if value is None:  # often; everything below has this result too, but later
        return ""
    if isinstance(value, float):
        value = int(value) if value.is_integer() else repr(value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < _MAX_NUMBER:
        return str(value)
    return value if isinstance(value, str) else ""


def first_text(*values: object) -> str:
    """The first of the values that is a text and not empty; "" when there is none."""
    return next(filter(None, map(text, values)), "")


def texts(value: object) -> list[str]:
    """The texts of a list, in order and without duplicates. A single text and {"0": …, "1": …} count as lists."""
    if value is None:
        return []
    return [item for item in dict.fromkeys(map(text, _items(value))) if item]


def names(value: object) -> list[str]:
    """The texts of a list, in order. Different spellings of one author count once: the first is kept."""
    found = texts(value)
    if len(found) < 2:
        return found
    first: dict[str, str] = {}
    for name in found:
        first.setdefault(name_key(name), name)
    return list(first.values())


def isbns(value: object, but: str) -> list[str]:
    """The ISBN-13s of a list of ISBNs, or of objects with an `isbn`: in order, without duplicates and without `but`."""
    found = (isbn(item.get("isbn") if isinstance(item, dict) else item) for item in _items(value))
    return [isbn13 for isbn13 in dict.fromkeys(found) if isbn13 and isbn13 != but]


def isbn(value: object) -> str | None:
    """The ISBN-13 of a text or number; None when it is not a valid ISBN."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, str | int):
        return None
    try:
        return parse(value)
    except InvalidIsbn:
        return None


def first_isbn(*values: object) -> str | None:
    """The ISBN-13 of the first of the values that is a valid ISBN."""
    return next(filter(None, map(isbn, values)), None)


def isbn10(isbn13: str) -> str:
    """The ISBN-10 of an ISBN-13; "" for 979, which has none."""
    return to_isbn10(isbn13) or ""


def whole_number(value: object) -> int | None:
    """A whole number from 0; also a text with thousands separators."""
    digits = _THOUSANDS.sub("", text(value))
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 19 else None


def pages(value: object) -> int | None:
    """A number of pages from 1 to 100,000; also from "352 pages", "xii, 352 p." and "1,024"."""
    prose = _THOUSANDS.sub("", text(value)[:100])
    match = _PAGES.search(prose)
    number = int(match[1] or match[2]) if match else 0
    return number if 0 < number <= _MAX_PAGES else None


def price(value: object) -> Decimal | None:
    """A price with two decimal places; also from "USD 12.99" and "12,99". None for 0, which means unknown."""
    match = _AMOUNT.search(text(value)[:100])
    if match is None:
        return None
    amount = match[0]
    amount = amount.replace(".", "").replace(",", ".") if _DECIMAL_COMMA.search(amount) else amount.replace(",", "")
    try:
        number = Decimal(amount)
    except InvalidOperation:
        return None
    return number.quantize(Decimal("0.01")) if Decimal("0.005") < number < _MAX_PRICE else None


def link(value: object) -> str:
    """An http(s) address; "" for anything else."""
    address = text(value)
    return address if _LINK.match(address) else ""


def publication_date(value: object) -> tuple[date | None, DatePrecision]:
    """The plausible part of a date, and its precision. Unknown parts are 1: (2023-10-01, "month").

    The time of day and its zone are ignored. A month or day that does not exist ("2023-02-31", "2023-00-00") is
    unknown. Without a year from 1400 to 2100 there is no date: (None, "").
    """
    return _parsed_date(text(value)[:100])


def day_published(value: object) -> date | None:
    """The date of `publication_date`."""
    return publication_date(value)[0]


def date_precision(value: object) -> DatePrecision:
    """The precision of `publication_date`."""
    return publication_date(value)[1]


@lru_cache(maxsize=1000)
def _parsed_date(prose: str) -> tuple[date | None, DatePrecision]:
    """Cached, because both fields of a date need the result, and many books share a date."""
    for form in _DATE_FORMS:
        match = form.search(prose)
        if match and _FIRST_YEAR <= int(match["year"]) <= _LAST_YEAR:
            parts = match.groupdict()
            return _partial_date(int(match["year"]), _month(parts.get("month")), int(parts.get("day") or 0))
    return None, ""


def _partial_date(year: int, month: int, day: int) -> tuple[date, DatePrecision]:
    try:
        return date(year, month, day), "day"
    except ValueError:
        return (date(year, month, 1), "month") if 1 <= month <= 12 else (date(year, 1, 1), "year")


def _month(written: str | None) -> int:
    if not written or written.isdigit():
        return int(written or 0)
    return _MONTHS.index(written[:3].lower()) + 1


def _trimmed(written: str) -> str:
    written = written.strip()
    return written if written.isascii() else written.strip(_BLANK)


def _character(entity: re.Match[str]) -> str:
    """What an entity stands for; a name that is none stays. (html.unescape also takes names without a semicolon.)"""
    name = entity[0][1:]
    return html.unescape(entity[0]) if name[0] == "#" else html.entities.html5.get(name, entity[0])


def _items(value: object) -> Collection[object]:
    if isinstance(value, list):
        return value
    return value.values() if isinstance(value, dict) else [value]

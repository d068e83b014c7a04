"""The one reader of ISBNs: for the API, the admin, the commands and the queue. What one of them takes, all take."""

import json
import re
import string
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from itertools import islice
from math import isnan
from typing import NamedTuple

from enrichment.isbn.parsing import InvalidIsbn, Reason, has_digits, parse
from enrichment.isbn.scanning import MIN_REPORTED, scan
from enrichment.isbn.suggestions import suggest, with_zeros

MAX_SHOWN = 200
"""Maximum number of characters of a value that are shown again."""

MAX_GROUPS = 600_000
"""Groups of digits in all values of a list in which ISBNs are looked for. A list of 100,000 with hyphens has fewer."""

_NOTHING = {"", "nan", "null", "none"}
"""What stands in a cell without an ISBN, in lower case and without punctuation: `-`, `[]`, `=""`, `NaN`."""
_AROUND = string.punctuation + string.whitespace + "–—−‐‑\u00a0\u200b\ufeff"


class State(StrEnum):
    VALID = "valid"
    DUPLICATE = "duplicate"
    """The same book as an entry before it."""
    INVALID = "invalid"


class Entry(NamedTuple):
    """An ISBN of the input, or something that is none. An invalid one has a reason and no ISBN-13."""

    input: str
    """The value as given; the part of it, if the value has several ISBNs."""
    isbn13: str | None
    state: State
    reason: Reason | None = None

    @property
    def suggestion(self) -> str | None:
        """What was probably meant by an invalid entry."""
        return suggest(self.input, self.reason) if self.reason else None


@dataclass(frozen=True)
class GivenIsbns:
    """What is in an input. requested = valid + invalid + duplicates. Empty values have no entry."""

    entries: list[Entry] = field(default_factory=list)
    """In the order of the input."""

    @property
    def requested(self) -> int:
        return len(self.entries)

    @cached_property
    def valid(self) -> list[str]:
        """The different ISBN-13s, in order."""
        return [entry.isbn13 for entry in self.entries if entry.state is State.VALID and entry.isbn13]

    @cached_property
    def invalid(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.state is State.INVALID]

    @property
    def duplicates(self) -> int:
        return self.requested - len(self.valid) - len(self.invalid)


def read(values: "Iterable[object] | GivenIsbns", *, is_spreadsheet: bool = False) -> GivenIsbns:
    """Finds the ISBNs in the values. Every ISBN is taken, or is an invalid entry. A bad value costs only itself.

    A value can have several ISBNs, with words, prices and brackets between them. `is_spreadsheet`: the values are
    cells of a file, in which ISBN-10s have lost the zeros in front; elsewhere these are only suggested. What is read
    already comes back as it is. A value is a text, a number or None; anything else that JSON has is invalid.
    """
    if isinstance(values, GivenIsbns):
        return values
    entries: list[Entry] = []
    seen: set[str] = set()
    scanner = _Scanner()
    for value in values:
        for text, isbn13, reason in _read_one(value, scanner, is_spreadsheet=is_spreadsheet):
            if isbn13 is None:
                entries.append(Entry(text, None, State.INVALID, reason))
            elif isbn13 in seen:
                entries.append(Entry(text, isbn13, State.DUPLICATE))
            else:
                seen.add(isbn13)
                entries.append(Entry(text, isbn13, State.VALID))
    return GivenIsbns(entries)


def is_nothing(value: object) -> bool:
    """Whether a value stands for no ISBN at all."""
    if isinstance(value, str):
        return value.strip(_AROUND).casefold() in _NOTHING
    return value is None or value == [] or (isinstance(value, float) and isnan(value))


class _Scanner:
    """Looks for ISBNs in values until it has seen MAX_GROUPS; what comes later is taken only as a whole."""

    def __init__(self) -> None:
        self.left = MAX_GROUPS

    def scan(self, value: str) -> list[str]:
        self.left -= sum(1 for _ in islice(_GROUP.finditer(value), self.left + 1))
        return scan(value) if self.left >= 0 else []


_GROUP = re.compile(r"\d+")
_Found = tuple[str, str | None, Reason | None]


def _read_one(value: object, scanner: _Scanner, *, is_spreadsheet: bool) -> Iterable[_Found]:
    if not isinstance(value, str | int | float):
        return () if is_nothing(value) else ((_shown(value), None, Reason.NOT_AN_ISBN),)
    try:
        return ((_shown(value), parse(value), None),)
    except InvalidIsbn as error:
        reason = error.reason
    if is_nothing(value):
        return ()
    if not isinstance(value, str):
        return ((_shown(value), None, reason),)
    if _can_have_parts(value, reason) and (parts := scanner.scan(value)):
        texts = parts if len(parts) > 1 else [value]
        return _read_parts(texts, parts, is_spreadsheet=is_spreadsheet)
    mended = with_zeros(value) if is_spreadsheet else None
    return ((_shown(value), mended, None if mended else reason),)


def _can_have_parts(value: str, reason: Reason) -> bool:
    """Whether to look for ISBNs in a part of it. The whole of a wrong check digit is one number."""
    return reason in {Reason.WRONG_LENGTH, Reason.NOT_AN_ISBN} and has_digits(value, MIN_REPORTED)


def _read_parts(texts: list[str], parts: list[str], *, is_spreadsheet: bool) -> Iterator[_Found]:
    """`texts`: what is shown for each part."""
    for text, part in zip(texts, parts, strict=True):
        try:
            yield _shown(text), parse(part), None
        except InvalidIsbn as error:
            mended = with_zeros(part) if is_spreadsheet else None
            yield _shown(text), mended, None if mended else error.reason


def _shown(value: object) -> str:
    """The value as text that any JSON answer can hold."""
    if isinstance(value, str):
        if len(value) <= MAX_SHOWN and value.isascii():
            return value
        text = value[: MAX_SHOWN + 1].encode("utf-8", "replace").decode("utf-8")  # without lone surrogates
    elif isinstance(value, int) and not isinstance(value, bool):
        text = str(value) if abs(value) < 10**30 else f"{value:#x}"
    else:
        text = json.dumps(value)
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 1]}…"

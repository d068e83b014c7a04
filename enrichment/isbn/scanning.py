"""Finds the ISBNs in a text that has several, or that has other words and numbers around one."""

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

from enrichment.isbn.parsing import InvalidIsbn, Reason, Translation, parse

_GROUP = r"[0-9]+(?:X(?![A-Z0-9]))?"
_JOINT = r"(?: ?- ?| )"
_RUN = re.compile(rf"{_GROUP}(?:{_JOINT}(?:{_GROUP}|X(?![A-Z0-9])))*")
"""Groups of digits with a hyphen or a blank between them: one ISBN or more, and other numbers."""
_LABEL = re.compile(r"ISBN(?:-1[03](?![0-9-])|1[03](?=(?:[0-9]{13}|[0-9]{9}[0-9X])(?![0-9])))?")
_DASHES = "−⁃˗"
_LENGTHS = (18, 15, 13, 10)
"""Of an ISBN-13 with the add-on of a bar code, an ISBN-13, and an ISBN-10."""
_PREFIXES = {"978", "979"}
MIN_REPORTED = 9
"""Shorter numbers beside an ISBN are prices, years and the like."""
_LONG_GROUP = 5
_MAX_GROUPS = 6
"""People divide an ISBN into at most five groups, and an add-on can follow."""


class Run(NamedTuple):
    """Groups of digits, and what is between them: a blank, a hyphen, or a hyphen with blanks."""

    groups: Sequence[str]
    joints: Sequence[str]

    @property
    def number(self) -> str:
        return "".join(self.groups)

    @property
    def text(self) -> str:
        return "".join(group + joint for group, joint in zip(self.groups, [*self.joints, ""], strict=True))

    @property
    def is_hyphenated(self) -> bool:
        return all(joint == "-" for joint in self.joints)

    def part(self, start: int, end: int) -> "Run":
        return Run(self.groups[start:end], self.joints[start : max(start, end - 1)])

    def joint_before(self, group: int) -> str:
        return self.joints[group - 1] if 0 < group < len(self.groups) else ""


def scan(text: str) -> list[str]:
    """The parts of the text that are ISBNs, or that were probably meant as ISBNs, in order.

    `parse` says of each which it is. Prices, years, numbers of volumes and other short numbers are left out.
    """
    parts: list[str] = []
    plain = _LABEL.sub(" : ", _plain(text))
    for run in _RUN.finditer(plain):
        if len(run[0]) < MIN_REPORTED:
            continue
        pieces = re.split(f"({_JOINT})", run[0])
        found = Run(pieces[::2], pieces[1::2])
        if _begins_inside(plain, run.start(), len(found.groups[0])):
            found = found.part(1, len(found.groups))
        parts += _parts(found)
    return parts


def _begins_inside(text: str, start: int, length: int) -> bool:
    """Whether a first group is the end of a word, such as the ASIN B0027VSU9S, or the cents of a price."""
    before = text[max(0, start - 2) : start]
    is_word = before[-1:].isascii() and before[-1:].isalnum() and length < max(_LENGTHS)
    return is_word or (before[-1:] in {".", ","} and before[:1].isdigit() and length < 3)


def _plain(text: str) -> str:
    """In upper case, with ASCII digits, `-` for every dash, one blank for any white space, and nothing invisible."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).translate(Translation(_plain_character))
    return " ".join(text.upper().split())


def _plain_character(character: str) -> str:
    category = unicodedata.category(character)
    if category == "Pd" or character in _DASHES:
        return "-"
    if category == "Cf":
        return ""
    digit = unicodedata.decimal(character, None)
    return character if digit is None else str(digit)


def _parts(run: Run) -> Iterator[str]:
    """Cuts a run into ISBNs. What is between them is a part too when it can be meant as one."""
    for is_isbn, piece in _cut(run, _is_isbn):
        if is_isbn:
            yield piece.text
            continue
        for is_mistaken, rest in _cut(piece, _is_mistaken):
            if is_mistaken or _can_be_meant(rest):
                yield rest.text


def _cut(run: Run, is_wanted: Callable[[Run, int, int], bool]) -> Iterator[tuple[bool, Run]]:
    """The parts that are wanted, and what is between them, in order."""
    start = rest = 0
    lengths = list(accumulate(map(len, run.groups), initial=0))
    group_at = {length: at for at, length in enumerate(lengths)}
    while start < len(run.groups):
        ends = (group_at.get(lengths[start] + length) for length in _LENGTHS)
        end = next((end for end in ends if end and end - start <= _MAX_GROUPS and is_wanted(run, start, end)), None)
        if end is None:
            start += 1
            continue
        if rest < start:
            yield False, run.part(rest, start)
        yield True, run.part(start, end)
        start = rest = end
    if rest < len(run.groups):
        yield False, run.part(rest, len(run.groups))


def _is_isbn(run: Run, start: int, end: int) -> bool:
    part = run.part(start, end)
    if len(part.number) == 10 and run.joint_before(start) == "-":  # the end of a longer number
        return False
    return _is_written_so(part) and _reason(part.number) is None


def _is_mistaken(run: Run, start: int, end: int) -> bool:
    """Whether it is an ISBN with a wrong check digit, and not a part of something longer."""
    part = run.part(start, end)
    if "-" in {run.joint_before(start), run.joint_before(end)}:
        return False
    return _is_written_so(part) and _reason(part.number) is Reason.WRONG_CHECK_DIGIT


def _is_written_so(run: Run) -> bool:
    """Whether people divide an ISBN in this way. Otherwise blanks would make ISBNs of prices and years."""
    groups, joints = run
    length = len(run.number)
    if len(groups) == 1 or length > 13:
        return len(groups) == 1  # an add-on behind a blank or a hyphen is a group of its own
    if run.is_hyphenated:
        return True
    if length == 13:
        return groups[0] in _PREFIXES and len(groups) in {2, 5} and len(set(joints[1:])) < 2
    return len(groups) == 4 and len(groups[3]) == 1 and len(set(joints)) == 1


def _can_be_meant(run: Run) -> bool:
    """Whether what is left is long enough to be an ISBN with a mistake, and not a date or prices."""
    if len(run.number) < MIN_REPORTED:
        return False
    return max(map(len, run.groups)) >= _LONG_GROUP or run.is_hyphenated or run.groups[0] in _PREFIXES


def _reason(number: str) -> Reason | None:
    try:
        parse(number)
    except InvalidIsbn as error:
        return error.reason
    return None

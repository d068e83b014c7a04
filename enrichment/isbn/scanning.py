"""Finds the ISBNs in a text that has several, or that has other words and numbers around one."""

import re
import unicodedata
from collections.abc import Iterator, Sequence

from enrichment.isbn.parsing import InvalidIsbn, Reason, parse

_GROUP = r"[0-9]+(?:X(?![A-Z0-9]))?"
_JOINT = r"(?: ?- ?| )"
_RUN = re.compile(rf"{_GROUP}(?:{_JOINT}(?:{_GROUP}|X(?![A-Z0-9])))*")
"""Groups of digits with a hyphen or a blank between them: one ISBN or more, and other numbers."""
_LABEL = re.compile(r"ISBN(?:[ -]?1[03](?![0-9-])|1[03](?=(?:[0-9]{13}|[0-9]{9}[0-9X])(?![0-9])))?")
_DASHES = "−⁃˗"
_LENGTHS = (13, 10)
_MIN_REPORTED = 9
_LONG_GROUP = 5


def scan(text: str) -> list[str]:
    """The parts of the text that are ISBNs, or that were probably meant as ISBNs, in order.

    `parse` says of each which it is. Prices, years, numbers of volumes and other short numbers are left out.
    """
    parts: list[str] = []
    plain = _LABEL.sub(" : ", _plain(text))
    for run in _RUN.finditer(plain):
        pieces = re.split(f"({_JOINT})", run[0])
        groups, joints = pieces[::2], pieces[1::2]
        before = plain[run.start() - 1] if run.start() else ""
        if before.isascii() and before.isalnum() and len(groups[0]) < max(_LENGTHS):
            groups, joints = groups[1:], joints[1:]  # the end of a word, such as the ASIN B0027VSU9S
        parts += _parts(groups, joints)
    return parts


def _plain(text: str) -> str:
    """In upper case, with ASCII digits, `-` for every dash, one blank for any white space, and nothing invisible."""
    if not text.isascii():
        text = "".join(map(_plain_character, unicodedata.normalize("NFKC", text)))
    return " ".join(text.upper().split())


def _plain_character(character: str) -> str:
    category = unicodedata.category(character)
    if category == "Pd" or character in _DASHES:
        return "-"
    if category == "Cf":
        return ""
    digit = unicodedata.decimal(character, None)
    return character if digit is None else str(digit)


def _parts(groups: Sequence[str], joints: Sequence[str]) -> Iterator[str]:
    """Cuts a run into ISBNs. What is between them is a part too when it can be meant as one."""
    start = rest = 0
    while start < len(groups):
        end = _end(groups, joints, start)
        if end is None:
            start += 1
            continue
        yield from _left(groups[rest:start], joints[rest : start - 1])
        yield _joined(groups[start:end], joints[start : end - 1])
        start = rest = end
    yield from _left(groups[rest:], joints[rest:])


def _end(groups: Sequence[str], joints: Sequence[str], start: int) -> int | None:
    """Where the ISBN ends that begins with this group; None: none does. A valid one goes before a mistaken one."""
    if len(groups[start]) > max(_LENGTHS):
        return start + 1 if _reason(groups[start]) is None else None  # with the add-on of a bar code
    mistaken: int | None = None
    ends: dict[int, int] = {}
    length = 0
    for end in range(start, len(groups)):
        length += len(groups[end])
        if length > max(_LENGTHS):
            break
        ends[length] = end + 1
    for wanted in _LENGTHS:
        end_of_wanted = ends.get(wanted)
        if end_of_wanted is None or not _is_written_so(groups[start:end_of_wanted], joints[start : end_of_wanted - 1]):
            continue
        reason = _reason("".join(groups[start:end_of_wanted]))
        if reason is None:
            return end_of_wanted
        is_whole = "-" not in [*joints[end_of_wanted - 1 : end_of_wanted], *joints[max(start - 1, 0) : start]]
        if reason is not Reason.NOT_AN_ISBN and mistaken is None and is_whole:
            mistaken = end_of_wanted
    return mistaken


def _is_written_so(groups: Sequence[str], joints: Sequence[str]) -> bool:
    """Whether people divide an ISBN in this way. Otherwise blanks would make ISBNs of prices and years."""
    if len(groups) == 1 or all("-" in joint for joint in joints):
        return True
    if len("".join(groups)) == 13:
        return groups[0] in {"978", "979"} and len(groups) in {2, 5} and len(set(joints[1:])) < 2
    return len(groups) == 4 and len(groups[3]) == 1 and len(set(joints)) == 1


def _left(groups: Sequence[str], joints: Sequence[str]) -> Iterator[str]:
    """What is left of a run, if it is long enough to be an ISBN with a mistake, and not a date or prices."""
    if sum(map(len, groups)) < _MIN_REPORTED:
        return
    if max(map(len, groups)) >= _LONG_GROUP or all("-" in joint for joint in joints) or groups[0] in {"978", "979"}:
        yield _joined(groups, joints)


def _joined(groups: Sequence[str], joints: Sequence[str]) -> str:
    return "".join(group + joint for group, joint in zip(groups, [*joints, ""], strict=True))


def _reason(number: str) -> Reason | None:
    try:
        parse(number)
    except InvalidIsbn as error:
        return error.reason
    return None

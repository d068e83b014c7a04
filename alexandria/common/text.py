"""Text: bytes decoded to characters, and numbers and lengths of time as people read them."""

import codecs
import unicodedata
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

_INVISIBLE_LETTERS_AND_MARKS = [
    ("\u034f", "\u034f"),  # combining grapheme joiner
    ("\u115f", "\u1160"),  # Hangul fillers
    ("\u17b4", "\u17b5"),  # Khmer vowels that are not written
    ("\u180b", "\u180f"),  # Mongolian variation selectors
    ("\u2800", "\u2800"),  # an empty Braille pattern
    ("\u3164", "\u3164"),
    ("\ufe00", "\ufe0f"),  # variation selectors
    ("\uffa0", "\uffa0"),
    ("\U000e0000", "\U000e0fff"),
]
_BYTE_ORDER_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


class DecodedText(NamedTuple):
    text: str
    guessed: str
    """The name of the encoding when it is only a guess; "" when the bytes prove it."""


def decode_text(content: bytes) -> DecodedText:
    """Decodes a file: by its byte order mark, as UTF-8, or else as Windows-1252, which accepts any bytes.

    A text with many NULs is UTF-16 without a mark.
    """
    for mark, encoding in _BYTE_ORDER_MARKS.items():
        if content.startswith(mark):
            return DecodedText(content.decode(encoding, "replace"), "")
    start = content[:1000]
    if start.count(0) * 4 > len(start):
        is_little = start[1::2].count(0) >= start[::2].count(0)
        return DecodedText(content.decode("utf-16-le" if is_little else "utf-16-be", "replace"), "UTF-16")
    try:
        return DecodedText(content.decode("utf-8"), "")
    except UnicodeDecodeError:
        return DecodedText(content.decode("cp1252", "replace"), "Windows-1252")


def is_invisible(character: str) -> bool:
    """Whether nobody can see this character: zero-width, a mark of direction, a control character, a filler."""
    return unicodedata.category(character) in {"Cc", "Cf"} or any(
        first <= character <= last for first, last in _INVISIBLE_LETTERS_AND_MARKS
    )


def visible(text: str) -> str:
    """The text without characters that nobody can see, and with single plain spaces."""
    spaced = "".join(" " if character.isspace() else character for character in text)
    return " ".join("".join(character for character in spaced if not is_invisible(character)).split())


def number(value: int | None) -> str:
    """With a comma after every three digits: "13,000". None is "none"."""
    return "none" if value is None else f"{value:,}"


def counted(count: int, noun: str, plural: str = "") -> str:
    """A number and its noun: "1 call", "2 calls", "1,000 calls"."""
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"


def as_people_read(moment: datetime, *, seconds: bool = False) -> str:
    """A time, in UTC: "2026-05-05 12:00 UTC". All texts for people write it so.

    `seconds`: to the second and not to the minute, for what is seconds away.
    """
    time_of_day = "%H:%M:%S" if seconds else "%H:%M"
    return f"{moment.astimezone(UTC):%Y-%m-%d {time_of_day}} UTC"


def as_programs_read(moment: datetime) -> str:
    """A time, in UTC, in ISO 8601: "2026-05-05T12:00:00Z". The API and the JSON of all commands write it so."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def length_of_time(length: timedelta) -> str:
    """The two largest units, rounded down: "3 h 05 min", "4 min 30 s", "2 d 7 h". A negative length is "0 s"."""
    minutes, seconds = divmod(max(0, int(length.total_seconds())), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"

"""ISBNs, and the slot of each invented one.

The 10^9 ISBN-13s that begin with 978 are distributed over slots of 15,000 positions, by a multiplication that has an
inverse. A slot has the invented books of one author, one month or one query. So a bibliography can be listed from its
slot, and each of its books can be found from its ISBN alone. The last twelfth of every slot is unknown to the sandbox.
"""

from stdnum import isbn as stdnum_isbn

SLOT_SIZE = 15_000
KNOWN_PER_SLOT = 13_750
SLOTS = 66_666
_NUMBERS = 10**9
_MULTIPLIER = 387_420_489
_INVERSE = pow(_MULTIPLIER, -1, _NUMBERS)


def parse(raw: str | int) -> str | None:
    """The ISBN-13 of an ISBN-10 or ISBN-13, with or without hyphens and spaces. None for any other text."""
    text = str(raw).zfill(10) if isinstance(raw, int) else raw
    if not stdnum_isbn.is_valid(text):
        return None
    return str(stdnum_isbn.to_isbn13(stdnum_isbn.compact(text)))


def isbn10(isbn13: str) -> str | None:
    """The ISBN-10 of an ISBN-13. None for an ISBN-13 that begins with 979."""
    return str(stdnum_isbn.to_isbn10(isbn13)) if isbn13.startswith("978") else None


def place(isbn13: str) -> tuple[int, int]:
    """The slot and the position in it. ISBNs that begin with 979 have their own slots, from 66,667 on."""
    slot, position = divmod(int(isbn13[3:12]) * _MULTIPLIER % _NUMBERS, SLOT_SIZE)
    return (slot if isbn13.startswith("978") else slot + SLOTS + 1), position


def isbn13_at(slot: int, position: int) -> str:
    """The ISBN-13 at a position of a slot: the inverse of `place`, for slots below 66,666."""
    digits = f"978{(slot * SLOT_SIZE + position) * _INVERSE % _NUMBERS:09d}"
    weighted = sum(int(digit) * (3 if index % 2 else 1) for index, digit in enumerate(digits))
    return f"{digits}{-weighted % 10}"

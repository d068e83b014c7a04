"""The facts about each book, without defects: from `data/books.csv`, or invented from the ISBN."""

import csv
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from alexandria.development.sandbox import isbns, vocabulary
from alexandria.development.sandbox.seeded_random import SeededRandom

DATA = Path(__file__).resolve().parent / "data"
FIRST_MONTH_SLOT = 60_000  # one slot for each month from January 1900 to December 2099
FIRST_YEAR, LAST_YEAR = 1900, 2099
_FIRST_FREE_SLOT = 5_000  # the slots below it belong to the authors with a known name

# Authors whose bibliography has a certain size, for tests of paging.
MORE_THAN_1000 = "Agatha Christie"  # 1,432 invented books
FULL_PAGES_WITHOUT_TOTAL = "R.L. Stine"  # 2,000 invented books and no `total`: the third page of 1,000 is empty
MORE_THAN_10000 = "William Shakespeare"  # 12,345 invented books, 10,000 of them can be listed
UNKNOWN_AUTHOR = "Nobody At All"  # the answer is 404
PAGES_OVER_6_MB = "Charles Dickens"  # 1,500 invented books with long texts: 1,000 are too large a page, 500 are not


@dataclass(frozen=True, slots=True)
class CatalogueBook:
    """A book. Unknown fields are empty.

    `date` is `YYYY`, `YYYY-MM` or `YYYY-MM-DD`. `language` is an ISO 639-1 code. `other_isbns` has the ISBN-13 and the
    binding of other editions. `long_texts` means that the synopsis is very long: 1,000 such books exceed 6 MB.
    """

    isbn13: str
    title: str
    authors: tuple[str, ...]
    publisher: str
    date: str
    pages: int | None
    language: str
    binding: str
    real: bool
    subtitle: str = ""
    subjects: tuple[str, ...] = ()
    other_isbns: tuple[tuple[str, str], ...] = ()
    long_texts: bool = False


def find(isbn13: str) -> CatalogueBook | None:
    """The book of a valid ISBN-13, always the same. None for one ISBN in twelve, which is unknown."""
    if real := real_books().get(isbn13):
        return real
    slot, position = isbns.place(isbn13)
    return invent(isbn13, slot, position) if position < isbns.KNOWN_PER_SLOT else None


@cache
def real_books() -> dict[str, CatalogueBook]:
    """The real books by ISBN-13. Editions of the same title and author list each other."""
    with (DATA / "books.csv").open(encoding="utf-8", newline="") as file:
        books = [
            CatalogueBook(
                isbn13=row["isbn13"],
                title=row["title"],
                authors=tuple(row["authors"].split(";")),
                publisher=row["publisher"],
                date=row["date_published"],
                pages=int(row["pages"]) if row["pages"] else None,
                language=row["language"],
                binding=row["binding"],
                real=True,
            )
            for row in csv.DictReader(file)
        ]
    editions: dict[tuple[str, str], list[CatalogueBook]] = {}
    for book in books:
        editions.setdefault((book.title, book.authors[0]), []).append(book)
    return {
        book.isbn13: replace(book, other_isbns=_others(book, group)) for group in editions.values() for book in group
    }


def _others(book: CatalogueBook, editions: Iterable[CatalogueBook]) -> tuple[tuple[str, str], ...]:
    return tuple((other.isbn13, other.binding or "Unknown Binding") for other in editions if other is not book)


def name_key(name: str) -> str:
    """A key that is equal for different spellings: `J. R. R. Tolkien` and `J.R.R. Tolkien`."""
    return "".join(character for character in name.casefold() if character.isalnum())


@cache
def _taken_slots() -> frozenset[int]:
    """Slots that contain a real ISBN. A bibliography in one of them could list this ISBN as another book."""
    return frozenset(isbns.place(isbn13)[0] for isbn13 in real_books())


@cache
def known_authors() -> dict[str, tuple[str, int]]:
    """Name and slot by `name_key`, for authors of real books, those of `data/authors.csv`, and invented authors."""
    with (DATA / "authors.csv").open(encoding="utf-8", newline="") as file:
        listed = [row["name"] for row in csv.DictReader(file)]
    names: dict[str, str] = {}
    for name in (*(author for book in real_books().values() for author in book.authors), *listed, *vocabulary.AUTHORS):
        names.setdefault(name_key(name), name)
    free = (slot for slot in range(_FIRST_FREE_SLOT) if slot not in _taken_slots())
    return {key: (names[key], slot) for key, slot in zip(sorted(names), free, strict=False)}


@cache
def _owners() -> dict[int, str]:
    return {slot: name for name, slot in known_authors().values()}


def slot_of_text(text: str) -> int:
    """The slot with the invented books of a query, or of an unknown author."""
    slot = _FIRST_FREE_SLOT + SeededRandom(f"slot:{text}").below(FIRST_MONTH_SLOT - _FIRST_FREE_SLOT - 1000)
    while slot in _taken_slots():
        slot += 1
    return slot


def invent(isbn13: str, slot: int, position: int) -> CatalogueBook:
    """The invented book at `position` of `slot`. Half of all fourth positions are an edition of the previous book."""
    random = SeededRandom(f"book:{isbn13}")
    is_edition = position % 4 == 3 and random.chance(50)
    original = isbns.isbn13_at(slot, position - 1) if is_edition and slot < isbns.SLOTS else isbn13
    work = SeededRandom(f"work:{original}")
    owner = _owners().get(slot)
    authors = dict.fromkeys([owner or work.pick(vocabulary.AUTHORS)])
    for _ in range(max(0, work.below(6) - 3)):
        authors[work.pick(vocabulary.AUTHORS)] = None
    noun, second = work.pick(vocabulary.NOUNS), work.pick(vocabulary.NOUNS)
    title = work.pick(vocabulary.TITLES).format(adjective=work.pick(vocabulary.ADJECTIVES), noun=noun, second=second)
    subtitle = work.pick(vocabulary.SUBTITLES) if work.chance(35) else ""
    first_subject = work.below(len(vocabulary.SUBJECTS))
    return CatalogueBook(
        isbn13=isbn13,
        title=title,
        authors=tuple(authors),
        publisher=random.pick(vocabulary.PUBLISHERS),
        date=_date(random, slot),
        pages=random.below(700) + 48,
        language=work.pick(vocabulary.LANGUAGES),
        binding=random.pick(vocabulary.BINDINGS),
        real=False,
        subtitle=subtitle,
        subjects=tuple(
            vocabulary.SUBJECTS[(first_subject + 7 * i) % len(vocabulary.SUBJECTS)] for i in range(work.below(4) + 1)
        ),
        other_isbns=((original, invent(original, slot, position - 1).binding),) if original != isbn13 else (),
        long_texts=owner == PAGES_OVER_6_MB,
    )


def _date(random: SeededRandom, slot: int) -> str:
    year, month = 2024 - min(random.below(40), random.below(40)), random.below(12) + 1
    months = (LAST_YEAR - FIRST_YEAR + 1) * 12
    if 0 <= slot - FIRST_MONTH_SLOT < months:
        years, months_on = divmod(slot - FIRST_MONTH_SLOT, 12)
        year, month = FIRST_YEAR + years, months_on + 1
        return f"{year}-{month:02d}-{random.below(28) + 1:02d}"
    day = f"{year}-{month:02d}-{random.below(28) + 1:02d}"
    return random.pick((day,) * 14 + (day[:4],) * 6 + (day[:7],) * 3 + ("",))

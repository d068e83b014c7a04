"""What is true of a book before untidiness gets at it: read from `data/books.csv`, or made up from the ISBN."""

import csv
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from alexandria.development.sandbox import isbns, vocabulary
from alexandria.development.sandbox.seeded_random import Dice

DATA = Path(__file__).resolve().parent / "data"
FIRST_MONTH_SLOT = 60_000  # one slot a month, from January 1900 to December 2099
FIRST_YEAR, LAST_YEAR = 1900, 2099
_FIRST_FREE_SLOT = 5_000  # below are the slots of the authors whom we know by name

# Names with a bibliography of a given size, for tests of paging.
MORE_THAN_1000 = "Agatha Christie"  # 1,432 made-up books
FULL_PAGES_WITHOUT_TOTAL = "R.L. Stine"  # 2,000 made-up books and no `total`: the third page of 1,000 is empty
MORE_THAN_10000 = "William Shakespeare"  # 12,345 made-up books, of which 10,000 can be had
UNKNOWN_AUTHOR = "Nobody At All"  # answered with 404
PAGES_OVER_6_MB = "Charles Dickens"  # 1,500 made-up books with long texts: 1,000 on a page are too many, 500 are not


@dataclass(frozen=True, slots=True)
class Facts:
    """A book. What is unknown is empty.

    `date`: `YYYY`, `YYYY-MM` or `YYYY-MM-DD`. `language`: an ISO 639-1 code. `other_isbns`: ISBN-13 and binding of
    other editions. `long_texts`: its synopsis is so long that a thousand such books are more than 6 MB.
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


def find(isbn13: str) -> Facts | None:
    """The facts of a valid ISBN-13, always the same; None for the one in twelve that is unknown."""
    if real := real_books().get(isbn13):
        return real
    slot, position = isbns.place(isbn13)
    return invent(isbn13, slot, position) if position < isbns.KNOWN_PER_SLOT else None


@cache
def real_books() -> dict[str, Facts]:
    """The real books by ISBN-13. Editions of one title by one author know of each other."""
    with (DATA / "books.csv").open(encoding="utf-8", newline="") as file:
        books = [
            Facts(
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
    editions: dict[tuple[str, str], list[Facts]] = {}
    for book in books:
        editions.setdefault((book.title, book.authors[0]), []).append(book)
    return {
        book.isbn13: replace(book, other_isbns=_others(book, group)) for group in editions.values() for book in group
    }


def _others(book: Facts, editions: Iterable[Facts]) -> tuple[tuple[str, str], ...]:
    return tuple((other.isbn13, other.binding or "Unknown Binding") for other in editions if other is not book)


def name_key(name: str) -> str:
    """What two spellings of a name have in common: `J. R. R. Tolkien` is `J.R.R. Tolkien`."""
    return "".join(character for character in name.casefold() if character.isalnum())


@cache
def _taken_slots() -> frozenset[int]:
    """Slots in which a real ISBN lies. No bibliography is put there: it might list that ISBN as another book."""
    return frozenset(isbns.place(isbn13)[0] for isbn13 in real_books())


@cache
def known_authors() -> dict[str, tuple[str, int]]:
    """Name and slot by `name_key`: the authors of real books, those of `data/authors.csv` and the invented ones."""
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
    """The slot of the made-up books of a query, or of an author whom nobody has heard of."""
    slot = _FIRST_FREE_SLOT + Dice(f"slot:{text}").below(FIRST_MONTH_SLOT - _FIRST_FREE_SLOT - 1000)
    while slot in _taken_slots():
        slot += 1
    return slot


def invent(isbn13: str, slot: int, position: int) -> Facts:
    """The made-up book at `position` of `slot`. Some fourth positions are another edition of the book before them."""
    dice = Dice(f"book:{isbn13}")
    is_edition = position % 4 == 3 and dice.chance(50)
    original = isbns.isbn13_at(slot, position - 1) if is_edition and slot < isbns.SLOTS else isbn13
    work = Dice(f"work:{original}")
    owner = _owners().get(slot)
    authors = dict.fromkeys([owner or work.pick(vocabulary.AUTHORS)])
    for _ in range(max(0, work.below(6) - 3)):
        authors[work.pick(vocabulary.AUTHORS)] = None
    noun, second = work.pick(vocabulary.NOUNS), work.pick(vocabulary.NOUNS)
    title = work.pick(vocabulary.TITLES).format(adjective=work.pick(vocabulary.ADJECTIVES), noun=noun, second=second)
    subtitle = work.pick(vocabulary.SUBTITLES) if work.chance(35) else ""
    first_subject = work.below(len(vocabulary.SUBJECTS))
    return Facts(
        isbn13=isbn13,
        title=title,
        authors=tuple(authors),
        publisher=dice.pick(vocabulary.PUBLISHERS),
        date=_date(dice, slot),
        pages=dice.below(700) + 48,
        language=work.pick(vocabulary.LANGUAGES),
        binding=dice.pick(vocabulary.BINDINGS),
        real=False,
        subtitle=subtitle,
        subjects=tuple(
            vocabulary.SUBJECTS[(first_subject + 7 * i) % len(vocabulary.SUBJECTS)] for i in range(work.below(4) + 1)
        ),
        other_isbns=((original, invent(original, slot, position - 1).binding),) if original != isbn13 else (),
        long_texts=owner == PAGES_OVER_6_MB,
    )


def _date(dice: Dice, slot: int) -> str:
    year, month = 2024 - min(dice.below(40), dice.below(40)), dice.below(12) + 1
    months = (LAST_YEAR - FIRST_YEAR + 1) * 12
    if 0 <= slot - FIRST_MONTH_SLOT < months:
        years, months_on = divmod(slot - FIRST_MONTH_SLOT, 12)
        year, month = FIRST_YEAR + years, months_on + 1
        return f"{year}-{month:02d}-{dice.below(28) + 1:02d}"
    day = f"{year}-{month:02d}-{dice.below(28) + 1:02d}"
    return dice.pick((day,) * 14 + (day[:4],) * 6 + (day[:7],) * 3 + ("",))

"""Bibliographies: the real books that match a query, then the invented ones, in a fixed order."""

import calendar
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

from alexandria.development.sandbox import catalogue, isbns, vocabulary
from alexandria.development.sandbox.catalogue import CatalogueBook
from alexandria.development.sandbox.seeded_random import SeededRandom

MAX_RESULTS = 10_000  # ISBNdb lists no more results, with any page size
_SIZES = {
    catalogue.MORE_THAN_1000: 1_432,
    catalogue.FULL_PAGES_WITHOUT_TOTAL: 2_000,
    catalogue.MORE_THAN_10000: 12_345,
    catalogue.PAGES_OVER_6_MB: 1_500,
}


@dataclass(frozen=True, slots=True)
class Filters:
    """The filters of a listing. An empty filter has no effect.

    `published_from` and `published_to` are `YYYY`, `YYYY-MM` or `YYYY-MM-DD`, both inclusive. `year` is `YYYY`.
    `language` is `en` or `eng`. `subject` is a part of one of the subjects of the book.
    """

    language: str = ""
    published_from: str = ""
    published_to: str = ""
    year: str = ""
    subject: str = ""

    def __call__(self, book: CatalogueBook) -> bool:
        language = self.language.lower()
        if language and vocabulary.LANGUAGE_CODES.get(language, language) != book.language:
            return False
        if not book.date.startswith(self.year):
            return False
        if self.subject and not any(self.subject.casefold() in subject.casefold() for subject in book.subjects):
            return False
        if not self.published_from and not self.published_to:
            return True
        first, last = _days(book.date)
        from_day, to_day = _days(self.published_from)[0], _days(self.published_to)[1]
        return bool(book.date) and from_day <= last and (not to_day or first <= to_day)


@dataclass(frozen=True, slots=True)
class Listing:
    """The books of one author, month, year or query.

    `slots` has the slots of the invented books, and the number of books in each. `has_total` says whether the answer
    has a `total`. `author` becomes the first author of the invented books, where their ISBNs do not determine it.
    """

    name: str
    real: tuple[CatalogueBook, ...]
    slots: tuple[tuple[int, int], ...]
    has_total: bool = True
    author: str = ""

    def page(self, number: int, size: int, filters: Filters) -> tuple[list[CatalogueBook], int]:
        """The books of a page (the first is 1), and the total number that match the filters."""
        start, stop = (number - 1) * size, min(number * size, MAX_RESULTS)
        total = len(self.real) + sum(count for _, count in self.slots)
        if filters == Filters():
            return list(self._books(start, stop)), total
        matching = [book for book in self._books(0, total) if filters(book)]
        return matching[start:stop], len(matching)

    def _books(self, start: int, stop: int) -> Iterator[CatalogueBook]:
        yield from self.real[start:stop]
        places = ((slot, position) for slot, count in self.slots for position in range(count))
        for slot, position in islice(places, max(0, start - len(self.real)), max(0, stop - len(self.real))):
            book = catalogue.invent(isbns.isbn13_at(slot, position), slot, position)
            yield replace(book, authors=(self.author, *book.authors[1:])) if self.author else book


def of_author(name: str) -> Listing:
    """The books of an author, in any spelling of the name. An unknown author has invented books, too."""
    key = catalogue.name_key(name)
    known = catalogue.known_authors().get(key)
    spelling, slot = known or (name, catalogue.slot_of_text(key))
    return Listing(
        name=spelling,
        real=_real(lambda book: key in map(catalogue.name_key, book.authors)),
        slots=((slot, _size(spelling)),),
        has_total=_has_total(spelling),
        author="" if known else name,
    )


def of_query(query: str, column: str) -> Listing:
    """The books that match a query.

    `column` is `title`, `author`, `publisher`, `date_published` or `subjects`, or empty for all.

    Only real books and dates really match. An invented book is the same in every listing.
    """
    if column == "author":
        return of_author(query)
    if column == "date_published":
        return _of_date(query)
    wanted = query.casefold().split()
    found = _real(lambda book: all(word in _text(book, column) for word in wanted))
    text = f"{column}:{' '.join(wanted)}"
    return Listing(name=query, real=found, slots=((catalogue.slot_of_text(text), _size(text)),))


def _of_date(query: str) -> Listing:
    """The books of a year or a month: the real ones, and several hundred invented ones for each month."""
    match = re.fullmatch(r"(\d{4})(?:-(0[1-9]|1[0-2]))?", query)
    if not match or not catalogue.FIRST_YEAR <= int(match[1]) <= catalogue.LAST_YEAR:
        return Listing(name=query, real=(), slots=())
    january = catalogue.FIRST_MONTH_SLOT + (int(match[1]) - catalogue.FIRST_YEAR) * 12
    months = [int(match[2]) - 1] if match[2] else range(12)
    return Listing(
        name=query,
        real=_real(lambda book: book.date.startswith(query)),
        slots=tuple((january + month, 300 + SeededRandom(f"month:{january + month}").below(1200)) for month in months),
    )


def _real(matches: Callable[[CatalogueBook], bool]) -> tuple[CatalogueBook, ...]:
    return tuple(book for book in catalogue.real_books().values() if matches(book))


def _text(book: CatalogueBook, column: str) -> str:
    columns = {"title": book.title, "publisher": book.publisher, "subjects": " ".join(book.subjects)}
    return columns.get(column, f"{book.title} {' '.join(book.authors)}").casefold()


def _size(text: str) -> int:
    """The number of invented books: usually below 120, in one case of 25 from 1,000 to 2,500."""
    random = SeededRandom(f"size:{text}")
    return _SIZES.get(text) or (1000 + random.below(1501) if random.below(25) == 0 else random.below(120))


def _has_total(name: str) -> bool:
    """ISBNdb sends no total for some authors, without a visible rule. The sandbox sends none for one in three."""
    if name in _SIZES:
        return name != catalogue.FULL_PAGES_WITHOUT_TOTAL
    return SeededRandom(f"total:{name}").below(3) != 0


def _days(date: str) -> tuple[str, str]:
    """The first and the last day that a date of any precision can mean. Empty for no date."""
    if len(date) == 4:
        return f"{date}-01-01", f"{date}-12-31"
    if len(date) == 7:
        return f"{date}-01", f"{date}-{calendar.monthrange(int(date[:4]), int(date[5:]))[1]:02d}"
    return date, date

"""A book as ISBNdb sends it: all keys of its Book schema, with typical defects, always the same for one ISBN."""

from typing import Any

from alexandria.development.sandbox import isbns, vocabulary
from alexandria.development.sandbox.catalogue import CatalogueBook
from alexandria.development.sandbox.seeded_random import SeededRandom

Json = dict[str, Any]


def book_json(book: CatalogueBook) -> Json:
    """The JSON of a book. A real book has only the facts of `data/books.csv`; its links are invented."""
    random = SeededRandom(f"answer:{book.isbn13}")
    isbn10 = isbns.isbn10(book.isbn13)
    answer: Json = {
        "title": book.title,
        "title_long": f"{book.title}: {book.subtitle}" if book.subtitle else book.title,
        "isbn": random.pick((book.isbn13,) * 7 + (isbn10, isbn10, None)),
        "isbn13": book.isbn13,
        "isbn10": isbn10,
        "dewey_decimal": None,
        "binding": book.binding or None,
        "publisher": book.publisher or None,
        "language": vocabulary.LANGUAGE_NAMES[book.language] if random.chance(10) else book.language,
        "date_published": _date(book.date, random),
        "edition": None,
        "pages": _pages(book.pages, random),
        "dimensions": None,
        "dimensions_structured": None,
        "overview": None,
        "image": f"https://covers.isbndb.example/{book.isbn13[-4:-2]}/{book.isbn13[-2:]}/{book.isbn13}.jpg",
        "image_original": None,
        "msrp": None,
        "excerpt": None,
        "synopsis": None,
        "authors": list(book.authors),
        "subjects": None if random.chance(10) else list(book.subjects),
        "reviews": None if random.chance(10) else [],
        "prices": [],
        "related": random.pick(({}, {}, {}, [], None, {"EPUB": book.isbn13})),
        "other_isbns": [{"isbn": isbn, "binding": binding} for isbn, binding in book.other_isbns],
    }
    if random.chance(60):
        # At ISBNdb these links expire after two hours, so nobody may store them. This one never works.
        answer["image_original"] = (
            f"https://originals.isbndb.example/{book.isbn13}.jpg?Expires=7200&Signature={random.below(10**9)}"
        )
    if random.chance(4):
        answer["audience"] = "General"
        answer["reading_age"] = {"from": 8, "to": 12}
    if not book.real:
        _invent_details(answer, book, random)
    return answer


def _invent_details(answer: Json, book: CatalogueBook, random: SeededRandom) -> None:
    """Adds the details that only invented books have, and removes some of them again."""
    height, width, thickness = (random.below(60) + 60) / 10, (random.below(40) + 40) / 10, (random.below(20) + 4) / 10
    answer["dimensions"] = f"Height: {height} Inches, Length: {thickness} Inches, Width: {width} Inches"
    answer["dimensions_structured"] = {
        "height": {"unit": "inches", "value": height},
        "length": {"unit": "inches", "value": thickness},
        "width": {"unit": "inches", "value": width},
    }
    if random.chance(10):
        answer["dimensions_structured"] = random.pick(([], None))
    answer["msrp"] = random.pick((9.99, 14.95, 17.0, 24.99, 32.5, 0, None))
    answer["edition"] = random.pick((None, None, None, "1", "2nd", "Revised", "Illustrated"))
    answer["dewey_decimal"] = [f"{random.below(900) + 100}.{random.below(90) + 10}"] if random.chance(50) else None
    synopsis = " ".join(
        random.pick(vocabulary.SENTENCES).format(
            author=book.authors[0],
            adjective=random.pick(vocabulary.ADJECTIVES).lower(),
            noun=random.pick(vocabulary.NOUNS).lower(),
            second=random.pick(vocabulary.NOUNS).lower(),
        )
        for _ in range(random.below(3) + 3)
    )
    if book.long_texts:
        synopsis = " ".join([synopsis] * (8000 // len(synopsis) + 1))
    answer["synopsis"] = synopsis
    if random.chance(30):
        answer["overview"] = synopsis[:200]
        answer["excerpt"] = f"“{synopsis[:120]}”"
    if random.chance(3):
        answer["authors"] = None
    if not book.other_isbns and random.chance(15):
        answer["other_isbns"] = None
    if not book.date and random.chance(50):
        answer["date_published"] = "To be announced"


def _date(date: str, random: SeededRandom) -> str:
    """The date, unchanged in most cases; otherwise as a time stamp, as words, or without the day."""
    year, month = date[:4], date[5:7]
    variant = random.below(14)
    if len(date) == 10 and variant == 0:
        return f"{date}T00:00:01Z"
    if len(date) == 10 and variant == 1:
        return f"{vocabulary.MONTHS[int(month) - 1]} {int(date[8:])}, {year}"
    if len(date) == 7 and variant < 4:
        return f"{vocabulary.MONTHS[int(month) - 1]} {year}"
    if len(date) == 4 and variant == 0:
        return f"c{year}."
    return date


def _pages(pages: int | None, random: SeededRandom) -> int | str | None:
    if pages is None:
        return None
    forms: tuple[int | str, ...] = (pages,) * 17 + (f"{pages} pages", f"{pages}", f"xii, {pages} p.")
    return random.pick(forms)

"""A book as ISBNdb sends it: all keys of its Book schema, and a fair share of untidiness, the same for one ISBN."""

from typing import Any

from alexandria.development.sandbox import isbns, vocabulary
from alexandria.development.sandbox.catalogue import Facts
from alexandria.development.sandbox.seeded_random import Dice

Json = dict[str, Any]


def book(facts: Facts) -> Json:
    """The JSON of a book. Of a real book it says no more than `data/books.csv` does; only the links are made up."""
    dice = Dice(f"answer:{facts.isbn13}")
    isbn10 = isbns.isbn10(facts.isbn13)
    answer: Json = {
        "title": facts.title,
        "title_long": f"{facts.title}: {facts.subtitle}" if facts.subtitle else facts.title,
        "isbn": dice.pick((facts.isbn13,) * 7 + (isbn10, isbn10, None)),
        "isbn13": facts.isbn13,
        "isbn10": isbn10,
        "dewey_decimal": None,
        "binding": facts.binding or None,
        "publisher": facts.publisher or None,
        "language": vocabulary.LANGUAGE_NAMES[facts.language] if dice.chance(10) else facts.language,
        "date_published": _date(facts.date, dice),
        "edition": None,
        "pages": _pages(facts.pages, dice),
        "dimensions": None,
        "dimensions_structured": None,
        "overview": None,
        "image": f"https://covers.isbndb.example/{facts.isbn13[-4:-2]}/{facts.isbn13[-2:]}/{facts.isbn13}.jpg",
        "image_original": None,
        "msrp": None,
        "excerpt": None,
        "synopsis": None,
        "authors": list(facts.authors),
        "subjects": None if dice.chance(10) else list(facts.subjects),
        "reviews": None if dice.chance(10) else [],
        "prices": [],
        "related": dice.pick(({}, {}, {}, [], None, {"EPUB": facts.isbn13})),
        "other_isbns": [{"isbn": isbn, "binding": binding} for isbn, binding in facts.other_isbns],
    }
    if dice.chance(60):
        # Such links die after two hours, so nobody may keep them; this one is dead from the start.
        answer["image_original"] = (
            f"https://originals.isbndb.example/{facts.isbn13}.jpg?Expires=7200&Signature={dice.below(10**9)}"
        )
    if dice.chance(4):
        answer["audience"] = "General"
        answer["reading_age"] = {"from": 8, "to": 12}
    if not facts.real:
        _make_up(answer, facts, dice)
    return answer


def _make_up(answer: Json, facts: Facts, dice: Dice) -> None:
    """Fills in what is only ever said of made-up books, and takes some of it away again."""
    height, width, thickness = (dice.below(60) + 60) / 10, (dice.below(40) + 40) / 10, (dice.below(20) + 4) / 10
    answer["dimensions"] = f"Height: {height} Inches, Length: {thickness} Inches, Width: {width} Inches"
    answer["dimensions_structured"] = {
        "height": {"unit": "inches", "value": height},
        "length": {"unit": "inches", "value": thickness},
        "width": {"unit": "inches", "value": width},
    }
    if dice.chance(10):
        answer["dimensions_structured"] = dice.pick(([], None))
    answer["msrp"] = dice.pick((9.99, 14.95, 17.0, 24.99, 32.5, 0, None))
    answer["edition"] = dice.pick((None, None, None, "1", "2nd", "Revised", "Illustrated"))
    answer["dewey_decimal"] = [f"{dice.below(900) + 100}.{dice.below(90) + 10}"] if dice.chance(50) else None
    synopsis = " ".join(
        dice.pick(vocabulary.SENTENCES).format(
            author=facts.authors[0],
            adjective=dice.pick(vocabulary.ADJECTIVES).lower(),
            noun=dice.pick(vocabulary.NOUNS).lower(),
            second=dice.pick(vocabulary.NOUNS).lower(),
        )
        for _ in range(dice.below(3) + 3)
    )
    if facts.long_texts:
        synopsis = " ".join([synopsis] * (8000 // len(synopsis) + 1))
    answer["synopsis"] = synopsis
    if dice.chance(30):
        answer["overview"] = synopsis[:200]
        answer["excerpt"] = f"“{synopsis[:120]}”"
    if dice.chance(3):
        answer["authors"] = None
    if not facts.other_isbns and dice.chance(15):
        answer["other_isbns"] = None
    if not facts.date and dice.chance(50):
        answer["date_published"] = "To be announced"


def _date(date: str, dice: Dice) -> str:
    """The date as it is in six cases of seven; else as a time stamp, as prose, or without the day."""
    year, month = date[:4], date[5:7]
    untidy = dice.below(14)
    if len(date) == 10 and untidy == 0:
        return f"{date}T00:00:01Z"
    if len(date) == 10 and untidy == 1:
        return f"{vocabulary.MONTHS[int(month) - 1]} {int(date[8:])}, {year}"
    if len(date) == 7 and untidy < 4:
        return f"{vocabulary.MONTHS[int(month) - 1]} {year}"
    if len(date) == 4 and untidy == 0:
        return f"c{year}."
    return date


def _pages(pages: int | None, dice: Dice) -> int | str | None:
    if pages is None:
        return None
    forms: tuple[int | str, ...] = (pages,) * 17 + (f"{pages} pages", f"{pages}", f"xii, {pages} p.")
    return dice.pick(forms)

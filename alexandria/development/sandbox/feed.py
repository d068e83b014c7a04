"""The feed of updates. Every day some of the real books change, and some hundred invented ones."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta

from alexandria.development.sandbox import catalogue, isbns
from alexandria.development.sandbox.seeded_random import SeededRandom

HISTORY = timedelta(days=7)


def updates(since: date, now: datetime) -> list[tuple[str, datetime]]:
    """ISBN-13s with the time of their change, oldest first, from the day `since` (at most 7 days back) until `now`."""
    day = max(since, now.date() - HISTORY)
    found: list[tuple[str, datetime]] = []
    while day <= now.date():
        found += [(isbn, moment) for isbn, moment in _of_day(day) if moment <= now]
        day += timedelta(days=1)
    return found


def _of_day(day: date) -> list[tuple[str, datetime]]:
    midnight = datetime.combine(day, time(), tzinfo=UTC)
    moments = {isbn: midnight + timedelta(seconds=SeededRandom(f"{day}:{isbn}").below(86_400)) for isbn in _isbns(day)}
    return sorted(moments.items(), key=lambda item: (item[1], item[0]))


def _isbns(day: date) -> Iterator[str]:
    for isbn in catalogue.real_books():
        if SeededRandom(f"update:{day}:{isbn}").chance(15):
            yield isbn
    slot = catalogue.slot_of_text(f"updates:{day}")
    for position in range(100 + SeededRandom(f"updates:{day}").below(400)):
        yield isbns.isbn13_at(slot, position)

"""New releases: the books of some months and subjects. A run can resume after any page."""

import time
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from math import inf
from typing import Any

from django.core import signing

from enrichment.exceptions import ENDINGS, EnrichmentStopped
from enrichment.gateway.listings import Listing, books_of_month
from enrichment.services.listings import Progress, Walk, fetch_all
from enrichment.services.stop_reasons import STOPS, stop_reason
from quota.exceptions import DayOver, QuotaRefused
from quota.spending import spending

MAX_PAGES_PER_MONTH = 10
MAX_MONTHS = 120
MAX_SUBJECTS = 20
MAX_LISTINGS = 600  # months x subjects
MAX_MONTHS_AHEAD = 12  # publishers announce books about a year ahead
TOKEN_LASTS = timedelta(days=30)
_SIGNER = signing.Signer(salt="enrichment.releases")
"""Without a time stamp: a token has its last day, so the same place gives the same token all day."""


@dataclass(frozen=True)
class Wanted:
    """Which new releases to fetch. Months are given by their first day, both inclusive; no subjects means all books."""

    start_month: date
    end_month: date
    max_pages_per_month: int
    subjects: tuple[str, ...] = ()
    skip_existing: bool = True

    @property
    def months(self) -> list[date]:
        first = self.start_month.year * 12 + self.start_month.month - 1
        last = self.end_month.year * 12 + self.end_month.month - 1
        return [date(month // 12, month % 12 + 1, 1) for month in range(first, last + 1)]

    @property
    def listings(self) -> list[Listing]:
        """One listing for each month and subject, in the order of the months."""
        return [books_of_month(month, subject) for month in self.months for subject in self.subjects or (None,)]

    def walk(self, place: dict[str, Any] | None = None, progress: Progress | None = None) -> Walk:
        """The walk through the listings. `place`: where an earlier one ended. `progress`: what it has counted."""
        return Walk(
            self.listings,
            max_pages=self.max_pages_per_month,
            skip_existing=self.skip_existing,
            place=place,
            progress=progress,
        )


@dataclass
class NewReleases:
    """The result. `walk` has the figures; `stopped_reason` says why the result is not complete.

    `consumer`: the slug of the one who can resume it.
    """

    wanted: Wanted
    walk: Walk
    consumer: str
    stopped_reason: str | None = None
    quota_exhausted: bool = False

    @property
    def progress(self) -> Progress:
        return self.walk.progress

    @property
    def complete(self) -> bool:
        return self.walk.is_complete

    @property
    def months_processed(self) -> list[date]:
        """The months in which every subject is done."""
        each = max(1, len(self.wanted.subjects))
        return [
            month
            for number, month in enumerate(self.wanted.months)
            if all(self.walk.is_done(listing) for listing in range(number * each, (number + 1) * each))
        ]

    @property
    def months_cut(self) -> list[date]:
        """The months with more books than `max_pages_per_month` allows, or than ISBNdb returns."""
        each = max(1, len(self.wanted.subjects))
        numbers = {number // each for number in (*self.progress.cut, *self.progress.beyond_reach)}
        return [self.wanted.months[number] for number in sorted(numbers)]

    @property
    def resume(self) -> str | None:
        """A token to fetch exactly what is missing; None when nothing is."""
        return None if self.complete else resume_token(self.wanted, self.walk.place, consumer=self.consumer)

    def as_dict(self) -> dict[str, Any]:
        """The result as the API and a job show it."""
        return {
            **self.progress.as_dict(),
            "complete": self.complete,
            "stopped_reason": self.stopped_reason,
            "quota_exhausted": self.quota_exhausted,
            "months_processed": [f"{month:%Y-%m}" for month in self.months_processed],
            "months_cut": [f"{month:%Y-%m}" for month in self.months_cut],
            "resume": self.resume,
        }


class BadToken(ValueError):
    """The token does not come from this service, belongs to another consumer, or is too old."""


def resume_token(wanted: Wanted, place: dict[str, Any], *, consumer: str) -> str:
    """A signed text for a URL or a body, with what is wanted and where to continue, for this consumer, for 30 days."""
    months = {"start_month": f"{wanted.start_month:%Y-%m}", "end_month": f"{wanted.end_month:%Y-%m}"}
    last_day = (datetime.now(UTC) + TOKEN_LASTS).date().isoformat()
    content = {"wanted": asdict(wanted) | months, "place": place, "consumer": consumer, "last_day": last_day}
    return _SIGNER.sign_object(content, compress=True)


def read_token(token: str, *, consumer: str) -> tuple[Wanted, dict[str, Any]]:
    """What is wanted, and the `place` of the walk. Raises BadToken."""
    try:
        content: dict[str, Any] = _SIGNER.unsign_object(token)
        owner, last_day = content["consumer"], date.fromisoformat(content["last_day"])
        wanted = content["wanted"]
        months = {name: parse_month(wanted[name]) for name in ("start_month", "end_month")}
        found = Wanted(**wanted | months | {"subjects": tuple(wanted["subjects"])})
    except (signing.BadSignature, KeyError, TypeError, ValueError) as error:
        raise BadToken("This is not a resume token of this service.") from error
    if owner != consumer:
        raise BadToken("This resume token belongs to another consumer.")
    if datetime.now(UTC).date() > last_day:
        raise BadToken(
            f"This resume token is older than {TOKEN_LASTS.days} days. Start again: fresh books cost nothing."
        )
    return found, content["place"]


def parse_month(text: str) -> date:
    """The first day of the month `YYYY-MM`. Raises ValueError."""
    moment = datetime.strptime(text, "%Y-%m").replace(tzinfo=UTC)
    if len(text) != len("2026-01") or moment.year < 1000:
        raise ValueError(f"{text!r} is not YYYY-MM.")
    return moment.date()


def enrich_new_releases(
    wanted: Wanted, *, consumer: str, place: dict[str, Any] | None = None, source: str = "", seconds: float = inf
) -> NewReleases:
    """Stores the books of the months, at most `max_pages_per_month` pages of 1,000 for each month and subject.

    `consumer`: the slug of the payer. `place`: where an earlier run stopped. All calls are reserved at the start; calls
    that a month does not need are released as soon as its total is known. After `seconds`, no page but the first is
    started, and the result has the reason `time_limit`.

    When the quota stops the operation after some pages, it returns a result with `quota_exhausted`. Every other stop
    raises EnrichmentStopped with the result so far.
    """
    walk = wanted.walk(place)
    result = NewReleases(wanted, walk, consumer)
    if walk.is_complete:
        return result
    try:
        with spending(consumer=consumer, operation="new-releases", calls=walk.calls_needed, source=source) as spender:
            fetch_all(walk, spender, until=time.monotonic() + seconds)
        result.stopped_reason = None if result.complete else "time_limit"
    except ENDINGS as error:
        result.stopped_reason = stop_reason(error)
        result.quota_exhausted = isinstance(error, QuotaRefused | DayOver)
        if not isinstance(error, STOPS) or not result.progress.has_answer:
            raise EnrichmentStopped(result, error) from error
    return result

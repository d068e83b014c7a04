"""Helpers for tests of ISBNdb's listings: the pages requested, the books it has, and acting during a request."""

from collections.abc import Callable
from datetime import timedelta

from django.db import connection

from alexandria.development.sandbox.listings import Filters, Listing
from alexandria.development.sandbox.server import Sandbox
from enrichment.models import Edition
from tests.fixtures import NOON, set_database_clock


def on_request(sandbox: Sandbox, act: Callable[[int], None]) -> None:
    """Calls `act` with the number of each request from now on, from 1, in another thread with its own connection."""
    meet = sandbox.faults.meet
    before = len(sandbox.requests)

    def act_and_meet(path: str) -> tuple[float, object]:
        try:
            act(len(sandbox.requests) - before)
        finally:
            connection.close()
        return meet(path)

    sandbox.faults.meet = act_and_meet  # type: ignore[assignment]


def pages_asked(sandbox: Sandbox) -> list[tuple[int, int]]:
    """The page and page size of each listing request, in order."""
    fields = (dict(pair.split("=") for pair in request["query"].split("&")) for request in sandbox.requests)
    return [(int(found["page"]), int(found["pageSize"])) for found in fields]


def isbns_of(listing: Listing, filters: Filters = Filters()) -> set[str]:  # noqa: B008 (it is frozen)
    """The ISBN-13s of a listing of the sandbox, as far as it returns them."""
    return {book.isbn13 for book in listing.page(1, 10_000, filters)[0]}


def stored() -> set[str]:
    return set(Edition.objects.values_list("isbn13", flat=True))


def to_the_next_day(sandbox: Sandbox, *, days: int = 1) -> None:
    """Sets the clocks of ISBNdb and of the quota to noon of a later day."""
    ahead = set_database_clock(NOON + timedelta(days=days))
    sandbox.set_clock(offset_seconds=ahead.total_seconds())

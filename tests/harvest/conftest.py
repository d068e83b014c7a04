import pytest

from harvest.defaults import ensure_defaults
from quota.models import Consumer
from tests.fixtures import (
    SetClock,
    api,
    api_without_key_check,
    at,
    consumer,
    key,
    one_at_a_time,
    plenty_left,
    sandbox,
    set_clock,
)

__all__ = [
    "api",
    "api_without_key_check",
    "at",
    "bulk_author",
    "consumer",
    "defaults",
    "key",
    "one_at_a_time",
    "plenty_left",
    "sandbox",
    "set_clock",
]


@pytest.fixture
def defaults(set_clock: SetClock) -> None:
    """The consumers and schedules that `migrate` makes; the end of a test empties every table."""
    ensure_defaults()


@pytest.fixture
def bulk_author(defaults: None) -> Consumer:
    """The consumer that pays for bulk harvests."""
    return Consumer.objects.get(slug="bulk-author")

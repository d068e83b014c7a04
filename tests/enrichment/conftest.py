import pytest

from enrichment.models.queue import FLUSHER
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
    "consumer",
    "flusher",
    "key",
    "one_at_a_time",
    "plenty_left",
    "sandbox",
    "set_clock",
]


@pytest.fixture
def flusher(set_clock: SetClock) -> Consumer:
    """The consumer that pays for the batches of the queue. It has no floor, because the sandbox has few calls a day."""
    return Consumer.objects.create(slug=FLUSHER, kind="cron")

import pytest

from quota.models import Consumer
from tests.fixtures import SetClock, api, consumer, key, sandbox, set_clock

__all__ = ["api", "bulk_author", "consumer", "key", "sandbox", "set_clock"]


@pytest.fixture
def bulk_author(set_clock: SetClock) -> Consumer:
    """The consumer that pays for bulk harvests, as a migration makes it."""
    made, _ = Consumer.objects.update_or_create(
        slug="bulk-author", defaults={"kind": "bulk", "floor": 2000, "cap_per_operation": 100}
    )
    return made

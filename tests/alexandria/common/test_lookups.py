import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from alexandria.development.sandbox.isbns import isbn13_at
from enrichment.models import Asker, QueuedIsbn
from enrichment.services.queue import enqueue
from quota.models import Consumer

ISBNS = [isbn13_at(7_000, position) for position in range(12)]
QUEUED = ISBNS[:8]


@pytest.fixture
def queue() -> None:
    Consumer.objects.create(slug="reader")
    enqueue(QUEUED, priority=QueuedIsbn.Priority.LOW, consumer="reader")


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("queue")
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(wanted=st.lists(st.sampled_from(ISBNS)))
def test_any_of_finds_and_excludes_what_in_does(wanted: list[str]) -> None:
    isbns = QueuedIsbn.objects.values_list("isbn13", flat=True)
    for values in (wanted, set(wanted), dict.fromkeys(wanted)):
        assert list(isbns.filter(isbn13__any_of=values)) == list(isbns.filter(isbn13__in=values))
        assert list(isbns.exclude(isbn13__any_of=values)) == list(isbns.exclude(isbn13__in=values))
    askers = Asker.objects.filter(queued__isbn13__any_of=wanted)
    assert list(askers) == list(Asker.objects.filter(queued__in=wanted))
    assert "JOIN" not in str(askers.query)

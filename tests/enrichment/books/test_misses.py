"""How long a miss is remembered: a day, then a week, then MISS_REMEMBER_DAYS."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db.models.functions import Now
from hypothesis import HealthCheck, example, given
from hypothesis import settings as budget
from hypothesis import strategies as st

from enrichment.books.misses import ask_again_at
from enrichment.books.storage import remember_misses
from enrichment.models import Miss
from enrichment.selectors.books import known_isbns

ISBN = "9780441172719"
START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
@given(
    days=st.integers(0, 60),
    asks=st.lists(st.tuples(st.integers(0, 70 * 24), st.booleans()), max_size=12),
)
@example(days=0, asks=[(0, False)])  # a short setting shortens the first step
@example(days=3, asks=[(24, False)])  # and the second
@budget(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_only_an_answer_after_the_pause_lengthens_the_next_pause(
    settings, days: int, asks: list[tuple[int, bool]]
) -> None:
    settings.MISS_REMEMBER_DAYS = days
    pauses = [timedelta(days=min(pause, days)) for pause in (1, 7, days)]
    Miss.objects.all().delete()
    remember_misses([ISBN], asked_at=START)
    moment, answers = START, 1
    for hours, doubtful in asks:
        before, moment = moment, moment + timedelta(hours=hours)
        if doubtful:
            answers = 1
        elif moment - before >= pauses[answers - 1]:
            answers = min(answers + 1, 3)
        remember_misses([ISBN], asked_at=moment, doubtful=doubtful)
        miss = Miss.objects.get()
        assert (miss.asked_at, ask_again_at(miss)) == (moment, moment + pauses[answers - 1])


@pytest.mark.django_db
@pytest.mark.parametrize("step", Miss.Step.values)
@pytest.mark.parametrize("days", [0, 3, 30])
def test_an_isbn_is_wanted_from_the_moment_that_the_miss_tells(settings, step: int, days: int) -> None:
    settings.MISS_REMEMBER_DAYS = days
    miss = Miss.objects.create(isbn13=ISBN, asked_at=datetime.now(UTC), step=step)
    pause = ask_again_at(miss) - miss.asked_at
    Miss.objects.update(asked_at=Now() - pause)
    assert known_isbns([ISBN]).wanted == [ISBN]
    Miss.objects.update(asked_at=Now() - pause + timedelta(seconds=30))
    assert known_isbns([ISBN]).missed == {ISBN}


@pytest.mark.django_db
def test_a_miss_that_the_feed_names_is_wanted_at_once() -> None:
    Miss.objects.create(isbn13=ISBN, asked_at=datetime.now(UTC), named_at=datetime.now(UTC))
    assert known_isbns([ISBN]).wanted == [ISBN]

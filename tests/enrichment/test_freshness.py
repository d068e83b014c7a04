"""Which editions are fresh: by their age, and longer while ISBNdb's feed is followed without a gap."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from enrichment.books.decoding import decode_books
from enrichment.books.storage import mark_named, remember_misses, store_books
from enrichment.models import Edition, FeedFollowing, Miss, Work
from enrichment.selectors.books import fresh_isbns, known_isbns, named_isbns, stale_editions, stale_isbns
from enrichment.services import feed
from tests import rows
from tests.fixtures import known_isbns as sandbox_isbns

FRESH_DAYS = 10
ISBNS = sorted(sandbox_isbns(10))
DAY = timedelta(days=1)

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def ten_days(settings) -> None:
    settings.EDITION_FRESH_DAYS = FRESH_DAYS


def store(isbn: str, *, days_ago: float, **fields: Any) -> str:
    now = datetime.now(UTC)
    work = Work.objects.create(title_key=isbn, author_key=isbn)
    times = {"created_at": now, "updated_at": now, "synced_at": now - DAY * days_ago}
    Edition.objects.create(isbn13=isbn, work=work, raw={}, content_hash="0" * 32, **times, **fields)
    return isbn


def follow(*, days: float, read_days_ago: float = 0.1) -> None:
    """Records that the feed was followed for so many days, and last read to its end so many days ago."""
    feed.start_run(from_the_beginning=True, run="run:1")
    FeedFollowing.objects.update(
        began_at=Now() - DAY * days, reading_since=Now() - DAY * read_days_ago, read_up_to=Now() - DAY * read_days_ago
    )


def fresh(*days_ago: float) -> list[float]:
    """Which of the editions of these ages are fresh. What is not fresh is stale."""
    Edition.objects.all().delete()
    Work.objects.all().delete()
    isbns = {store(isbn, days_ago=days): days for isbn, days in zip(ISBNS, days_ago, strict=False)}
    found = fresh_isbns(isbns)
    assert set(stale_isbns(100)) == set(stale_editions().values_list("pk", flat=True)) == isbns.keys() - found
    assert set(known_isbns(list(isbns)).wanted) == isbns.keys() - found
    return [days for isbn, days in isbns.items() if isbn in found]


def test_without_the_feed_an_edition_is_fresh_for_the_setting() -> None:
    assert fresh(0, 9.9, 10.1, 39) == [0, 9.9]


def test_while_the_feed_is_followed_an_edition_is_fresh_four_times_as_long() -> None:
    follow(days=100)
    assert fresh(0, 10.1, 39.9, 40.1, 99) == [0, 10.1, 39.9]


def test_an_edition_from_before_the_following_is_fresh_by_its_age_alone() -> None:
    follow(days=20)
    assert fresh(9.9, 19.9, 20.1, 39) == [9.9, 19.9]
    FeedFollowing.objects.all().delete()
    follow(days=5)
    assert fresh(4.9, 9.9, 10.1) == [4.9, 9.9]


def test_the_switch_leaves_only_the_age(settings) -> None:
    follow(days=100)
    settings.FEED_FRESHNESS = False
    assert fresh(9.9, 10.1) == [9.9]
    store(ISBNS[5], days_ago=1, named_at=datetime.now(UTC))
    assert fresh_isbns(ISBNS[5:6]) == {ISBNS[5]}


def test_a_gap_leaves_only_the_age_until_the_feed_is_read_again() -> None:
    follow(days=100)
    feed.record_gap("A page was skipped.", run="run:7")
    assert fresh(9.9, 10.1) == [9.9]
    [ended] = FeedFollowing.objects.all()
    assert (ended.why_ended, ended.ended_by) == ("A page was skipped.", "run:7")
    assert ended.ended_at is not None

    feed.start_run(from_the_beginning=False, run="run:8")
    assert FeedFollowing.objects.count() == 1, "the rest of a reading with a gap begins nothing"
    feed.start_run(from_the_beginning=True, run="run:9")
    assert fresh(10.1) == [], "the reading has not come to its end"
    feed.finish_reading()
    assert fresh(9.9, 10.1) == [9.9], "these were fetched before the new following began"
    FeedFollowing.objects.filter(ended_at=None).update(began_at=Now() - 11 * DAY)
    assert fresh(10.1, 11.1) == [10.1]


def test_a_feed_that_was_not_read_for_a_week_keeps_nothing_fresh_and_the_next_run_records_the_gap() -> None:
    follow(days=100, read_days_ago=6.9)
    assert fresh(10.1) == [10.1]
    feed.start_run(from_the_beginning=True, run="run:2")
    assert fresh(10.1) == [10.1], "the former reading still counts while a new one is under way"

    FeedFollowing.objects.update(read_up_to=Now() - 7.1 * DAY)
    assert fresh(9.9, 10.1) == [9.9]
    feed.start_run(from_the_beginning=True, run="run:3")
    began, ended = FeedFollowing.objects.all()
    assert (began.ended_at, ended.why_ended, ended.ended_by) == (None, feed.TOO_LONG, "run:3")
    feed.finish_reading()
    assert FeedFollowing.objects.get(pk=began.pk).read_up_to == began.reading_since
    assert fresh(9.9, 10.1) == [9.9]


def test_what_the_feed_names_is_due_until_isbndb_was_asked() -> None:
    follow(days=100)
    for isbn in ISBNS[:4]:
        store(isbn, days_ago=1)
    remember_misses([ISBNS[8], ISBNS[9]])
    mark_named([ISBNS[1], ISBNS[2], ISBNS[8], "9999999999999"])
    assert fresh_isbns(ISBNS) == {ISBNS[0], ISBNS[3]}
    assert known_isbns([*ISBNS[:4], *ISBNS[8:]]).wanted == [ISBNS[1], ISBNS[2], ISBNS[8]]
    assert named_isbns(10) == [ISBNS[1], ISBNS[2], ISBNS[8]]
    assert named_isbns(1) == [ISBNS[1]]
    assert stale_isbns(10) == [ISBNS[1], ISBNS[2]]

    store_books(decode_books(f'{{"data": [{{"isbn13": "{ISBNS[1]}"}}]}}'.encode(), key="data").books)
    remember_misses([ISBNS[8]])
    assert named_isbns(10) == [ISBNS[2]]
    remember_misses([ISBNS[2]])
    assert named_isbns(10) == stale_isbns(10) == [], "ISBNdb has dropped it"
    Miss.objects.filter(pk=ISBNS[2]).update(asked_at=Now() - 1.1 * DAY)
    assert named_isbns(10) == stale_isbns(10) == [ISBNS[2]], "and is asked for it again like for every miss"


def test_the_oldest_names_come_first_and_then_the_oldest_editions() -> None:
    now = datetime.now(UTC)
    store(ISBNS[0], days_ago=50)
    store(ISBNS[1], days_ago=60)
    store(ISBNS[2], days_ago=70, named_at=now - DAY)
    store(ISBNS[3], days_ago=1, named_at=now - 2 * DAY)
    assert stale_isbns(10) == [ISBNS[3], ISBNS[2], ISBNS[1], ISBNS[0]]
    assert stale_isbns(3) == [ISBNS[3], ISBNS[2], ISBNS[1]]
    assert stale_isbns(1) == named_isbns(1) == [ISBNS[3]]


@pytest.mark.slow
def test_among_many_editions_an_index_finds_what_is_fresh_stale_and_named() -> None:
    rows.one_of_each()
    rows.fill(Edition, 30_000)
    Edition.objects.update(synced_at=Now() - DAY)
    some = list(Edition.objects.values_list("pk", flat=True)[:300])
    Edition.objects.filter(pk__in=some).update(synced_at=Now() - 50 * DAY)
    follow(days=100)
    mark_named(some[:20])
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE enrichment_edition")
    with CaptureQueriesContext(connection) as queries:
        assert len(stale_isbns(10_000)) == 300
        assert len(named_isbns(10_000)) == 20
        assert stale_editions().count() == 300
        assert len(fresh_isbns(some)) == 0
    plans = []
    for query in queries:
        with connection.cursor() as cursor:
            cursor.execute("EXPLAIN " + query["sql"])
            plans.append("\n".join(line for (line,) in cursor.fetchall()))
    assert [plan for plan in plans if "Seq Scan on enrichment_edition" in plan] == []
    [plan] = json.loads(stale_editions().explain(format="json"))
    assert plan["Plan"]["Plan Rows"] < 3000, "PostgreSQL knows that few editions are stale, so it plans joins well"

"""Renewing stored editions by the listing of their author: what it costs, when it stops, and what it leaves alone."""

import json
from collections.abc import Collection
from datetime import timedelta

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from alexandria.development.sandbox import catalogue, listings
from alexandria.development.sandbox.server import Sandbox
from enrichment.books.decoding import decode_books
from enrichment.books.storage import store_books
from enrichment.exceptions import EnrichmentStopped
from enrichment.gateway.listings import PAGE_SIZE
from enrichment.models import Author, AuthorMiss, Edition, Miss
from enrichment.selectors.refreshes import wanted_authors
from enrichment.services import refreshes
from enrichment.services.bibliographies import enrich_bibliography
from enrichment.services.refresh_plans import AuthorListing, BatchValue, plan_refresh
from enrichment.services.refreshes import MAX_DEBT, Renewal, refresh_by_listing, refresh_isbns
from quota.models import Call
from tests.enrichment.listening import isbns_of, pages_asked
from tests.fixtures import a_minute_passes, balance, known_isbns, unknown_isbns

BY_ISBN = BatchValue(1000, calls=1000)
LARGE, HEAVY = catalogue.MORE_THAN_1000, catalogue.PAGES_OVER_6_MB
SMALL = "Aldous Huxley"

pytestmark = pytest.mark.usefixtures("consumer")


def listing_of(author: str, isbns: Collection[str], *, pages: int = 1) -> AuthorListing:
    return AuthorListing(author, pages, tuple(sorted(isbns)), len(isbns))


def refresh(listing: AuthorListing) -> Renewal:
    return refresh_by_listing(listing, batch=BY_ISBN, consumer="reader", source="test")


def keep(author: str) -> list[str]:
    """Stores the books of an author, all of them last synced 100 days ago; returns those that name the author."""
    enrich_bibliography(author, consumer="reader")
    Edition.objects.update(synced_at=Now() - timedelta(days=100))
    return sorted(Edition.objects.filter(authors__name=author).values_list("isbn13", flat=True))


def renewed() -> set[str]:
    return set(Edition.objects.filter(synced_at__gt=Now() - timedelta(days=1)).values_list("isbn13", flat=True))


def store_by(authors: list[list[str]]) -> list[str]:
    """Stores an edition for each list of authors, without ISBNdb."""
    isbns = sorted(known_isbns(len(authors)))  # of two spellings of a name, the first of the lowest ISBN is stored
    books = [{"isbn13": isbn, "title": isbn, "authors": names} for isbn, names in zip(isbns, authors, strict=True)]
    store_books(decode_books(json.dumps({"data": books}).encode(), key="data").books)
    return isbns


@pytest.mark.slow
def test_a_listing_renews_the_wanted_editions_and_all_other_books_on_its_pages(sandbox: Sandbox) -> None:
    isbns = keep(LARGE)
    calls = sandbox.spent
    result = refresh(listing_of(LARGE, isbns, pages=2))
    assert result.renewed == set(isbns)
    assert result.progress.api_calls == 2
    assert renewed() == isbns_of(listings.of_author(LARGE))
    assert balance(sandbox) == (calls + 2, calls + 2)
    assert {call.operation for call in Call.objects.order_by("-pk")[:2]} == {"refresh"}


@pytest.mark.slow
def test_it_ends_when_a_batch_is_as_cheap_for_what_is_missing(sandbox: Sandbox) -> None:
    keep(LARGE)
    order = [book.isbn13 for book in listings.of_author(LARGE).page(1, 1432, listings.Filters())[0]]
    result = refresh(listing_of(LARGE, [*order[:5], order[1200]], pages=2))
    assert result.renewed == set(order[:5])
    assert result.progress.api_calls == 1


@pytest.mark.slow
def test_a_page_that_renews_no_more_than_a_batch_ends_the_listing(sandbox: Sandbox) -> None:
    """The editions are by another spelling of the name, for instance."""
    isbns = keep(SMALL)
    calls = sandbox.spent
    result = refresh(listing_of(catalogue.FULL_PAGES_WITHOUT_TOTAL, isbns, pages=10))
    assert (result.renewed, result.progress.api_calls) == (set(), 1)
    assert sandbox.spent == calls + 1
    assert not Miss.objects.exists()


def test_an_author_that_isbndb_does_not_know_is_remembered_and_the_editions_are_no_misses(sandbox: Sandbox) -> None:
    isbns = keep(SMALL)
    result = refresh(listing_of(catalogue.UNKNOWN_AUTHOR, isbns))
    assert result.renewed == set()
    assert list(AuthorMiss.objects.values_list("name", flat=True)) == [catalogue.UNKNOWN_AUTHOR]
    assert not Miss.objects.exists()
    Author.objects.filter(name=SMALL).update(name=catalogue.UNKNOWN_AUTHOR)
    names = [author.name for author in wanted_authors(isbns, min_editions=1, page_size=PAGE_SIZE)]
    assert catalogue.UNKNOWN_AUTHOR not in names, "the next plan does not ask for it again"


@pytest.mark.slow
def test_a_page_that_is_too_large_is_halved_while_that_is_cheaper_than_batches(sandbox: Sandbox) -> None:
    isbns = keep(HEAVY)
    before = len(sandbox.requests)
    result = refresh(listing_of(HEAVY, isbns, pages=2))
    assert result.renewed == set(isbns)
    assert {size for _, size in pages_asked_since(sandbox, before)} >= {1000, 500}


def pages_asked_since(sandbox: Sandbox, before: int) -> list[tuple[int, int]]:
    del sandbox.requests[:before]
    return pages_asked(sandbox)


@pytest.mark.slow
def test_a_failure_keeps_what_came_before_it(sandbox: Sandbox) -> None:
    isbns = keep(LARGE)
    sandbox.add_fault("drip", seconds=0, path="/author", times=1)
    sandbox.add_fault("garbage", path="/author", times=1)
    with pytest.raises(EnrichmentStopped) as stopped:
        refresh(listing_of(LARGE, isbns, pages=2))
    assert isinstance(stopped.value.result, Renewal)
    assert stopped.value.result.renewed == renewed().intersection(isbns)
    assert 900 < len(stopped.value.result.renewed) <= 1000


def test_the_plan_takes_the_names_and_the_numbers_of_editions_from_the_catalogue(settings) -> None:
    settings.ISBNDB_BATCH_PRICE = "isbn"
    zoe, other = ["Zoe Vernier"], ["Vernier, Zoe", "Ann Onym"]
    isbns = store_by([zoe, zoe, other, ["Ann Onym"], ["Somebody Else"], []])
    plan = plan_refresh(isbns)
    assert [(listing.name, listing.isbns) for listing in plan.listings] == [("Zoe Vernier", tuple(isbns[:3]))]
    assert plan.rest == tuple(isbns[3:])
    assert (plan.calls, plan.calls_by_batches) == (4, 6)
    settings.ISBNDB_BATCH_PRICE = "request"
    plan = plan_refresh(isbns)
    assert (plan.listings, plan.calls, plan.calls_by_batches) == ((), 1, 1)


def test_a_name_that_is_too_long_for_isbndb_is_left_to_batches(settings) -> None:
    settings.ISBNDB_BATCH_PRICE = "isbn"
    isbns = store_by([["x" * 151], ["x" * 151]])
    assert plan_refresh(isbns).listings == ()


def test_the_selection_reads_only_the_links_of_the_wanted_editions_by_index(settings) -> None:
    settings.ISBNDB_BATCH_PRICE = "isbn"
    isbns = store_by([[f"Author {number // 3}"] for number in range(300)])
    with connection.cursor() as cursor, CaptureQueriesContext(connection) as queries:
        assert len(plan_refresh(isbns[:200]).listings) == 67
        cursor.execute("SET enable_seqscan = off")  # the tables are small: PostgreSQL would read them as a whole
    try:
        reads = [query["sql"] for query in queries if "enrichment_editionauthor" in query["sql"]]
        assert len(reads) == 2
        for read in reads:
            with connection.cursor() as cursor:
                cursor.execute("EXPLAIN " + read)
                steps = "\n".join(row[0] for row in cursor.fetchall())
            assert "Seq Scan" not in steps, steps
    finally:
        with connection.cursor() as cursor:
            cursor.execute("RESET enable_seqscan")


@pytest.fixture
def by_isbn(settings, sandbox: Sandbox) -> None:
    """ISBNdb charges a call for each ISBN of a batch, and so do we."""
    settings.ISBNDB_BATCH_PRICE = "isbn"
    sandbox.set_plan(batch_price="isbn")


@pytest.mark.slow
@pytest.mark.usefixtures("by_isbn")
def test_a_list_is_refreshed_by_the_cheapest_plan_and_every_isbn_is_accounted_for(sandbox: Sandbox) -> None:
    isbns = [*keep(SMALL), *known_isbns(2), *unknown_isbns(1)]
    changed = Edition.objects.filter(pk__in=isbns[:2])
    changed.update(content_hash="0" * 32)
    calls = sandbox.spent
    result = refresh_isbns([*isbns, "x"], consumer="reader")
    assert (result.requested, result.valid, len(result.invalid)) == (len(isbns) + 1, len(isbns), 1)
    assert (result.enriched, result.created, result.updated) == (len(isbns) - 1, 2, 2)
    assert (result.not_found_isbns, result.failed) == (isbns[-1:], 0)
    assert result.api_calls == 1 + 3, "one listing, and a batch of three"
    assert renewed().issuperset(isbns[:-1])
    assert balance(sandbox) == (calls + 4, calls + 4)


@pytest.mark.slow
@pytest.mark.usefixtures("by_isbn")
def test_an_author_that_brings_nothing_is_left_to_batches(sandbox: Sandbox) -> None:
    isbns = keep(SMALL)[:5]
    Author.objects.filter(name=SMALL).update(name="Ada Nakagawa")
    result = refresh_isbns(isbns, consumer="reader")
    assert (result.enriched, result.not_found_isbns, result.api_calls) == (5, [], 6)
    a_minute_passes()
    sandbox.add_fault("garbage", path="/author")
    assert refresh_isbns(isbns, consumer="reader").enriched == 5


@pytest.mark.slow
@pytest.mark.usefixtures("by_isbn")
def test_listings_that_have_cost_more_than_batches_are_tried_no_more(sandbox: Sandbox) -> None:
    authors = [f"Nobody {number}" for number in range(6)]
    isbns = store_by([[author] for author in authors for _ in range(2)])
    a_minute_passes()
    sandbox.add_fault("garbage", path="/author")
    result = refresh_isbns(isbns, consumer="reader")
    assert result.api_calls == len(isbns) + MAX_DEBT
    assert result.enriched == len(isbns)


@pytest.mark.slow
@pytest.mark.usefixtures("by_isbn")
def test_when_the_quota_ends_the_rest_has_failed_and_what_came_is_counted(sandbox: Sandbox, consumer) -> None:
    isbns = keep(SMALL)
    single = known_isbns(3)
    consumer.cap_per_operation = 2
    consumer.save()
    with pytest.raises(EnrichmentStopped) as stopped:
        refresh_isbns([*isbns, *single], consumer="reader")
    assert (stopped.value.result.api_calls, stopped.value.result.failed) == (0, len(isbns) + 3), "4 calls are too many"
    sandbox.add_fault("daily_limit", path="/books")
    consumer.cap_per_operation = 4
    consumer.save()
    with pytest.raises(EnrichmentStopped) as stopped:
        refresh_isbns([*isbns, *single], consumer="reader")
    result = stopped.value.result
    assert (result.enriched, result.failed) == (len(isbns), 3)
    assert [error.isbn for error in result.errors] == single


@pytest.mark.slow
@pytest.mark.usefixtures("by_isbn")
def test_an_answer_does_not_wait_for_listings_for_longer_than_its_time(sandbox: Sandbox, monkeypatch) -> None:
    isbns = keep(SMALL)
    monkeypatch.setattr(refreshes, "LISTINGS_TIME", timedelta(seconds=-1))
    assert refresh_isbns(isbns, consumer="reader").api_calls == len(isbns)

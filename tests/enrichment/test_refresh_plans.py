"""The cheapest plan of a refresh covers every edition once, and never costs more than batches."""

from collections import Counter
from collections.abc import Callable
from math import ceil

from hypothesis import given
from hypothesis import strategies as st

from enrichment.gateway.listings import MAX_RESULTS, PAGE_SIZE
from enrichment.selectors.refreshes import WantedAuthor
from enrichment.services.refresh_plans import BatchValue, RefreshPlan, cheapest_plan

BY_ISBN = BatchValue(1000, calls=1000)
BY_REQUEST = BatchValue(1000, calls=1)


def cost_in(batch: BatchValue) -> Callable[[int], int]:
    """What ISBNs cost in such batches. By the ISBN, a batch that is not full costs less."""
    by_isbn = batch.calls == batch.size > 1
    return lambda isbns: isbns if by_isbn else ceil(isbns / batch.size) * batch.calls


def plan(isbns: list[str], authors: list[WantedAuthor], batch: BatchValue = BY_ISBN) -> RefreshPlan:
    return cheapest_plan(isbns, authors, batch=batch, cost_of_isbns=cost_in(batch))


def author(name: str, *isbns: str, editions: int | None = None) -> WantedAuthor:
    return WantedAuthor(name, len(isbns) if editions is None else editions, isbns)


def names(found: RefreshPlan) -> list[str]:
    return [listing.name for listing in found.listings]


@st.composite
def refreshes(draw: st.DrawFn) -> tuple[list[str], list[WantedAuthor], BatchValue]:
    """Wanted editions by several authors, who have more editions than those, and batches at either price."""
    isbns = [str(number) for number in range(draw(st.integers(0, 40)))]
    size = draw(st.sampled_from([1, 2, 7, 1000]))
    batch = BatchValue(size, calls=draw(st.sampled_from([1, size])))
    whose = st.lists(st.sampled_from(isbns), unique=True, max_size=30) if isbns else st.just([])
    others = st.one_of(st.integers(0, 3), st.integers(0, 3 * PAGE_SIZE), st.integers(0, 5 * MAX_RESULTS))
    authors = [
        author(f"author {number}", *owned, editions=len(owned) + draw(others))
        for number, owned in enumerate(draw(st.lists(whose, max_size=12)))
    ]
    return isbns, authors, batch


@given(refreshes())
def test_a_plan_covers_every_wanted_edition_exactly_once(
    refresh: tuple[list[str], list[WantedAuthor], BatchValue],
) -> None:
    isbns, authors, batch = refresh
    found = plan(isbns, authors, batch)
    covered = Counter(isbn for listing in found.listings for isbn in listing.isbns) + Counter(found.rest)
    assert covered == Counter(isbns)
    wrote = {each.name: set(each.isbns) for each in authors}
    assert all(wrote[listing.name].issuperset(listing.isbns) for listing in found.listings)


@given(refreshes())
def test_a_plan_never_costs_more_than_batches_alone(
    refresh: tuple[list[str], list[WantedAuthor], BatchValue],
) -> None:
    isbns, authors, batch = refresh
    found = plan(isbns, authors, batch)
    assert found.calls_by_batches == cost_in(batch)(len(isbns))
    assert found.calls <= found.calls_by_batches
    unlisted = sum(len(listing.isbns) - listing.expected for listing in found.listings)
    pages = sum(listing.pages for listing in found.listings)
    assert found.calls == pages + cost_in(batch)(len(found.rest) + unlisted)


@given(refreshes())
def test_each_listing_renews_more_for_a_call_than_a_batch_and_no_other_would(
    refresh: tuple[list[str], list[WantedAuthor], BatchValue],
) -> None:
    isbns, authors, batch = refresh
    found = plan(isbns, authors, batch)
    values = [listing.expected / listing.pages for listing in found.listings]
    assert values == sorted(values, reverse=True)
    assert all(value > batch.size / batch.calls for value in values)
    left = set(found.rest)
    for each in authors:
        if each.editions <= PAGE_SIZE and each.name not in names(found):
            assert len(left.intersection(each.isbns)) <= batch.size / batch.calls


def test_by_the_isbn_an_author_of_two_editions_is_listed_and_an_author_of_one_is_not() -> None:
    found = plan(["a", "b", "c"], [author("One", "a"), author("Two", "b", "c")])
    assert (names(found), found.rest) == (["Two"], ("a",))
    assert (found.calls, found.calls_by_batches) == (2, 3)


def test_by_the_request_full_batches_win_over_any_listing() -> None:
    isbns = [str(number) for number in range(1001)]
    found = plan(isbns, [author("Prolific", *isbns[:1000])], BY_REQUEST)
    assert (names(found), found.rest, found.calls) == ([], tuple(isbns), 2)


def test_by_the_request_a_listing_wins_over_small_batches() -> None:
    isbns = [str(number) for number in range(30)]
    found = plan(isbns, [author("Prolific", *isbns[:25])], BatchValue(10, calls=1))
    assert (names(found), found.calls, found.calls_by_batches) == (["Prolific"], 2, 3)


def test_an_author_with_many_other_editions_is_listed_only_while_the_pages_pay() -> None:
    isbns = ["a", "b", "c"]
    assert names(plan(isbns, [author("Busy", *isbns, editions=2 * PAGE_SIZE)])) == ["Busy"]
    assert names(plan(isbns, [author("Busier", *isbns, editions=2 * PAGE_SIZE + 1)])) == []


def test_a_book_by_two_authors_is_renewed_once() -> None:
    isbns = ["a", "b", "c", "d"]
    found = plan(isbns, [author("First", "a", "b", "c"), author("Second", "c", "d")])
    assert [(listing.name, listing.isbns) for listing in found.listings] == [("First", ("a", "b", "c"))]
    assert found.rest == ("d",), "for one edition a listing is no better than a batch"


def test_of_an_author_with_more_books_than_isbndb_lists_only_that_share_is_expected() -> None:
    isbns = [str(number) for number in range(100)]
    [listing] = plan(isbns, [author("Shakespeare", *isbns, editions=2 * MAX_RESULTS)]).listings
    assert (listing.pages, len(listing.isbns), listing.expected) == (10, 100, 50)

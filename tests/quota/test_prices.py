"""What a request costs: the table of prices, and how reservations and dispatches charge it."""

import threading
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from hypothesis import given
from hypothesis import strategies as st

from quota.exceptions import QuotaRefused, ReservationSpent
from quota.models import Call, Consumer, DailyLedger, PriceMeasurement, Reservation, Switches
from quota.prices import BatchPrice, RequestKind
from quota.selectors.prices import (
    MAX_UNSETTLED_PROBES,
    PRICE_IS_NEWS,
    PROBE_PAUSE,
    batch_size_for,
    cost_of_isbns,
    get_prices,
    is_probe_due,
    last_price_change,
    price_of,
)
from quota.selectors.status import check_ledger, get_status
from quota.services import reservations
from quota.spending import spending
from tests.fixtures import NOON, At, SetClock, dispatched

FAR = timedelta(days=1)


@pytest.fixture(autouse=True)
def by_the_isbn(settings, consumer: Consumer) -> None:
    settings.ISBNDB_BATCH_PRICE = "isbn"
    settings.QUOTA_DAILY_LIMIT, settings.QUOTA_SAFETY_BUFFER, settings.QUOTA_MAX_RPS = 1100, 100, 1000


def spend(calls: int = 0):
    return spending(consumer="reader", operation="test", calls=calls)


def measure(batch_price: str = "", key_price: int | None = None, *, moment: datetime = NOON) -> None:
    reservations.open_ledger()
    PriceMeasurement.objects.create(
        ledger_id=get_status().day, measured_at=moment, how="probe", batch_price=batch_price, key_price=key_price
    )


def figures() -> tuple[int, int, int]:
    status = get_status()
    return status.used, status.reserved, status.requests


@pytest.mark.parametrize(
    ("setting", "kind", "isbns", "calls"),
    [
        ("request", RequestKind.BATCH, 1000, 1),
        ("isbn", RequestKind.BATCH, 1000, 1000),
        ("isbn", RequestKind.BATCH, 1, 1),
        ("measure", RequestKind.BATCH, 1000, 1000),
        ("isbn", RequestKind.FEED, None, 0),
        ("request", RequestKind.FEED, None, 0),
        ("isbn", RequestKind.PAGE, None, 1),
        ("request", RequestKind.KEY, None, 1),
    ],
)
def test_a_request_costs_what_the_table_says(settings, setting: str, kind: RequestKind, isbns: int, calls: int) -> None:
    settings.ISBNDB_BATCH_PRICE = setting
    assert price_of(kind, isbns=isbns) == calls


def test_a_measured_price_counts_from_then_on_and_the_newest_wins(settings) -> None:
    settings.ISBNDB_BATCH_PRICE = "measure"
    assert get_prices().batch_price is BatchPrice.UNKNOWN
    assert get_prices().since is None
    measure("request", key_price=0)
    measure()  # it settled nothing
    assert (get_prices().batch_price, get_prices().key_price, get_prices().since) == (BatchPrice.REQUEST, 0, NOON)
    measure("isbn")
    assert (get_prices().batch_price, get_prices().key_price) == (BatchPrice.ISBN, 0)


def test_after_three_probes_in_vain_the_next_one_is_due_ten_minutes_after_the_last(settings, at: At) -> None:
    settings.ISBNDB_BATCH_PRICE = "measure"
    for minute in range(MAX_UNSETTLED_PROBES):
        assert is_probe_due()
        measure(moment=NOON + timedelta(minutes=minute))
    last = 60 * (MAX_UNSETTLED_PROBES - 1)
    at(last + PROBE_PAUSE.total_seconds() - 1)
    assert not is_probe_due()
    at(last + PROBE_PAUSE.total_seconds())
    assert is_probe_due()


def test_a_question_for_the_counter_costs_what_was_measured(settings) -> None:
    for key_price in (0, 1, 0):
        measure(key_price=key_price)
        assert price_of(RequestKind.KEY) == key_price


def test_the_switch_wins_over_the_setting_and_over_what_was_measured(settings) -> None:
    measure("isbn")
    Switches.objects.create(batch_price="request")
    prices = get_prices()
    assert (prices.batch_price, prices.chosen_by) == (BatchPrice.REQUEST, "switch")
    assert prices.since is not None
    Switches.objects.update(batch_price="measure")
    assert get_prices().batch_price is BatchPrice.ISBN
    assert get_prices().chosen_by == "measurement"


@pytest.mark.parametrize(
    ("measured", "setting", "is_news", "is_news_later"),
    [
        (["isbn"], "measure", False, False),  # the first measurement changes nothing
        (["request", "isbn"], "measure", True, False),
        (["isbn", "isbn"], "measure", False, False),
        (["request"], "isbn", True, False),
        (["isbn"], "request", True, True),  # we charge too little until somebody acts
    ],
)
def test_another_price_is_news_for_a_day_and_longer_while_we_charge_too_little(
    settings, measured: list[str], setting: str, *, is_news: bool, is_news_later: bool
) -> None:
    settings.ISBNDB_BATCH_PRICE = setting
    for price in measured:
        measure(price)
    assert (last_price_change(NOON) is not None) is is_news
    later = last_price_change(NOON + PRICE_IS_NEWS)
    assert (later is not None) is is_news_later
    if later:
        assert later.chosen_instead == "setting"


@given(isbns=st.integers(0, 5000), size=st.integers(1, 1000))
@pytest.mark.django_db(transaction=True)
def test_a_list_costs_the_prices_of_its_batches(isbns: int, size: int) -> None:
    from django.test import override_settings

    batches = [min(size, isbns - start) for start in range(0, isbns, size)]
    for price in ("request", "isbn"):
        with override_settings(ISBNDB_BATCH_SIZE=size, ISBNDB_BATCH_PRICE=price):
            assert cost_of_isbns(isbns) == (len(batches) if price == "request" else isbns)


def test_a_batch_is_charged_its_price_and_its_journal_row_holds_it() -> None:
    with spend() as spender:
        call = dispatched(spender, RequestKind.BATCH, "POST", "/books", isbns_asked=300)
        dispatched(spender, RequestKind.PAGE, "GET", "/author/x")
    assert call.price == 300
    assert spender.calls_spent == 301
    assert list(Call.objects.order_by("id").values_list("calls", flat=True)) == [300, 1]
    assert figures() == (301, 0, 2)
    assert check_ledger(get_status().day) == []


def test_a_reservation_holds_at_least_the_price_of_its_first_request() -> None:
    with spend(10) as spender:
        dispatched(spender, RequestKind.BATCH, "POST", "/books", isbns_asked=300)
        assert Reservation.objects.get().asked == 300
    with pytest.raises(QuotaRefused) as refused, spend() as spender:
        dispatched(spender, RequestKind.BATCH, "POST", "/books", isbns_asked=701)
    assert (refused.value.asked, refused.value.free) == (701, 700)
    assert figures() == (300, 0, 1)


def test_a_request_that_costs_more_than_is_left_reserves_what_is_missing() -> None:
    with spend(100) as spender:
        dispatched(spender, RequestKind.BATCH, "POST", "/books", isbns_asked=60)
        assert spender.reservation is not None
        with pytest.raises(ReservationSpent) as spent:
            reservations.dispatch(
                spender.reservation, kind=RequestKind.BATCH, method="POST", path="/books", isbns_asked=50
            )
        assert spent.value.missing == 10
        dispatched(spender, RequestKind.BATCH, "POST", "/books", isbns_asked=50)
        assert figures() == (110, 0, 2)
        with pytest.raises(QuotaRefused):
            dispatched(spender, RequestKind.BATCH, "POST", "/books", isbns_asked=1000)
    assert figures() == (110, 0, 2)


def test_a_price_that_rises_within_an_operation_is_charged_from_the_next_request_on(settings) -> None:
    settings.ISBNDB_BATCH_PRICE = "measure"
    measure("request")
    with spend(2) as spender:
        dispatched(spender, RequestKind.BATCH, "POST", "/books", isbns_asked=200)
        measure("isbn")
        dispatched(spender, RequestKind.BATCH, "POST", "/books", isbns_asked=200)
    assert figures() == (201, 0, 2)


def test_a_price_that_rises_while_a_dispatch_waits_for_the_ledger_is_charged(settings) -> None:
    settings.ISBNDB_BATCH_PRICE = "measure"
    measure("request")
    reservation = reservations.reserve(consumer="reader", operation="test", calls=500)
    found: list[int] = []

    def dispatch() -> None:
        call = reservations.dispatch(reservation, kind=RequestKind.BATCH, method="POST", path="/books", isbns_asked=500)
        found.append(call.price if isinstance(call, reservations.DispatchedCall) else -1)
        connection.close()

    with connection.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("SELECT FROM quota_dailyledger FOR UPDATE")
        waiting = threading.Thread(target=dispatch)
        waiting.start()
        while not _someone_waits_for_a_lock(cursor):
            pass
        cursor.execute(
            "INSERT INTO quota_pricemeasurement (day, measured_at, how, batch_price, figures, note)"
            " SELECT day, now(), 'probe', 'isbn', '[]', '' FROM quota_dailyledger"
        )
        cursor.execute("COMMIT")
    waiting.join()
    assert found == [500]


def _someone_waits_for_a_lock(cursor) -> bool:
    cursor.execute("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)")
    return bool(cursor.fetchone()[0])


def test_a_free_request_goes_out_when_nothing_is_left_and_when_the_day_is_closed() -> None:
    reservations.increment(1000)
    with pytest.raises(QuotaRefused), spend() as spender:
        dispatched(spender, RequestKind.PAGE, "GET", "/author/x")
    with spend() as spender:
        call = dispatched(spender, RequestKind.FEED, "GET", "/feeds/books/updates")
        reservations.close_day(call, reason="Daily quota exceeded")
        dispatched(spender, RequestKind.FEED, "GET", "/feeds/books/updates")
    with spend() as spender:
        dispatched(spender, RequestKind.FEED, "GET", "/feeds/books/updates")
    assert figures() == (1000, 0, 3)
    assert set(Call.objects.filter(reservation__isnull=False).values_list("calls", flat=True)) == {0}
    assert check_ledger(get_status().day) == []


def test_a_free_request_takes_a_slot_of_the_pace(settings) -> None:
    settings.QUOTA_MAX_RPS = 1
    with spend() as spender:
        first = dispatched(spender, RequestKind.FEED, "GET", "/feeds/books/updates")
        second = dispatched(spender, RequestKind.FEED, "GET", "/feeds/books/updates")
    assert second.send_at - first.send_at >= timedelta(seconds=1)


def test_a_free_request_keeps_clear_of_midnight(set_clock: SetClock) -> None:
    set_clock(datetime(2026, 5, 5, 23, 59, 59, tzinfo=UTC))
    with pytest.raises(QuotaRefused) as refused, spend() as spender:
        dispatched(spender, RequestKind.FEED, "GET", "/feeds/books/updates")
    assert refused.value.limit == "midnight"


def test_on_a_closed_day_isbndbs_counter_is_asked_beyond_the_safety_limit_once_in_nine_minutes(
    set_clock: SetClock,
) -> None:
    with spend(2) as spender:
        call = dispatched(spender, RequestKind.PAGE, "GET", "/author/x")
        reservations.close_day(call, reason="Daily quota exceeded")
        with pytest.raises(QuotaRefused):
            dispatched(spender, RequestKind.PAGE, "GET", "/author/x")
    with spend() as spender:
        dispatched(spender, RequestKind.KEY, "GET", "/key")
    assert figures() == (2, 0, 2)
    reservations.increment(1098)  # more than the safety limit
    with pytest.raises(QuotaRefused) as refused, spend() as spender:
        dispatched(spender, RequestKind.KEY, "GET", "/key")
    assert refused.value.limit == "safety_limit"
    set_clock(NOON + timedelta(minutes=10))
    with pytest.raises(QuotaRefused) as refused, spend() as spender:
        dispatched(spender, RequestKind.KEY, "GET", "/key")
        dispatched(spender, RequestKind.KEY, "GET", "/key")
    assert figures() == (1101, 0, 3)
    measure(key_price=0)
    with spend() as spender:
        dispatched(spender, RequestKind.KEY, "GET", "/key")
    assert figures() == (1101, 0, 4)
    assert check_ledger(get_status().day) == []


def test_on_an_open_day_isbndbs_counter_is_never_asked_beyond_the_safety_limit() -> None:
    reservations.increment(1000)
    with pytest.raises(QuotaRefused) as refused, spend() as spender:
        dispatched(spender, RequestKind.KEY, "GET", "/key")
    assert refused.value.limit == "safety_limit"


def test_while_a_reservation_holds_the_pace_no_other_request_is_sent() -> None:
    probe, other = (reservations.reserve(consumer="reader", operation=name, calls=5) for name in ("probe", "other"))
    assert hold_pace(probe, 30)
    assert not hold_pace(other, 30), "one at a time"
    assert isinstance(dispatch(other), timedelta)
    with spend() as spender:
        answer = reservations.reserve_and_dispatch(
            consumer="reader", operation="new", calls=1, kind=RequestKind.PAGE, method="GET", path="/author/x"
        )[2]
        assert isinstance(answer, timedelta)
        assert spender.dispatched == []
    assert isinstance(dispatch(probe), reservations.DispatchedCall)
    assert hold_pace(probe, 0)
    assert isinstance(dispatch(other), reservations.DispatchedCall)


def test_while_a_reservation_holds_the_pace_what_was_dispatched_before_still_gets_another_send_time() -> None:
    """A probe waits for it. Otherwise each of them would wait for the other until one gives up."""
    probe, late, waiting = (
        reservations.reserve(consumer="reader", operation=name, calls=5) for name in ("probe", "late", "waiting")
    )
    call = dispatch(late)
    assert isinstance(call, reservations.DispatchedCall)
    assert hold_pace(probe, 30)
    assert isinstance(dispatch(waiting), timedelta)
    assert reservations.move(call) is None


def test_the_hold_of_a_reservation_that_died_ends_by_itself(set_clock: SetClock) -> None:
    probe, other = (
        reservations.reserve(consumer="reader", operation=name, calls=5, lease=FAR) for name in ("probe", "other")
    )
    assert hold_pace(probe, 30)
    set_clock(NOON + timedelta(seconds=31))
    assert isinstance(dispatch(other), reservations.DispatchedCall)
    assert hold_pace(other, 30)


def hold_pace(reservation, seconds: float) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT quota_hold_pace(p_reservation => %s, p_seconds => %s)", [reservation, seconds])
        return bool(cursor.fetchone()[0])


def dispatch(reservation) -> reservations.DispatchedCall | timedelta:
    return reservations.dispatch(reservation, kind=RequestKind.PAGE, method="GET", path="/author/x")


@pytest.mark.parametrize(("price", "free", "size"), [("isbn", 300, 300), ("isbn", 0, 1), ("request", 300, 1000)])
def test_a_batch_is_as_large_as_what_is_free_pays_for(settings, price: str, free: int, size: int) -> None:
    settings.ISBNDB_BATCH_PRICE = price
    reservations.increment(1000 - free)
    assert batch_size_for("reader") == size
    settings.QUOTA_ENFORCEMENT = "observe"
    assert batch_size_for("reader") == 1000


def test_a_free_operation_is_refused_by_no_limit_of_its_consumer() -> None:
    Consumer.objects.filter(slug="reader").update(floor=2000, daily_budget=0)
    with spend() as spender:
        dispatched(spender, RequestKind.FEED, "GET", "/feeds/books/updates")
    assert DailyLedger.objects.get().requests == 1

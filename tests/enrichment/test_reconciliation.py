"""Comparing ISBNdb's own counter with ours (guarantee 8)."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import DataError, connection

from alexandria.development.sandbox.server import Sandbox
from enrichment.gateway.asking import ask as ask_isbndb
from enrichment.gateway.questions import key_usage
from enrichment.services.enrich import enrich_isbns
from enrichment.services.reconciliation import reconcile
from quota.exceptions import CorrectionRefused, QuotaRefused
from quota.models import Adjustment, Call, Consumer, DailyLedger, PriceMeasurement, Reconciliation, Reopening, Switches
from quota.prices import RequestKind
from quota.selectors.prices import get_prices
from quota.selectors.status import check_ledger, drift_of, get_status
from quota.services import corrections, reservations
from quota.services.prices import record_measurement
from quota.services.reservations import DispatchedCall
from quota.spending import spending
from tests.fixtures import NOON, At, SetClock, balance, dispatched, known_isbns, stop_database_clock

MIDNIGHT = datetime(2026, 5, 6, tzinfo=UTC)

pytestmark = pytest.mark.usefixtures("consumer", "sandbox")


def ask() -> Reconciliation:
    return reconcile(consumer="reader").counters


@pytest.fixture
def closed_day(consumer: Consumer) -> Iterator[DispatchedCall]:
    """A dispatched GET /key, on a day that was closed a minute before it."""
    with spending(consumer="reader", operation="test", calls=1) as spender:
        call = dispatched(spender, RequestKind.KEY, "GET", "/key")
        DailyLedger.objects.update(closed_at=call.send_at - timedelta(minutes=1), closed_reason="a test")
        yield call


def answer_to(call: DispatchedCall, *, spent: int, total: int, left: int) -> Reconciliation:
    return corrections.reconcile(call, spent=spent, total=total, left=left)


def clocks(sandbox: Sandbox, set_clock: SetClock, moment: datetime) -> None:
    set_clock(moment)
    sandbox.set_clock(offset_seconds=(moment - datetime.now(UTC)).total_seconds())


def test_calls_that_only_isbndb_counts_are_added_to_our_ledger_with_the_active_consumers(sandbox: Sandbox) -> None:
    Consumer.objects.create(slug="other")
    ask()
    with spending(consumer="other", operation="test", calls=2) as spender:
        for _ in range(2):
            reservations.record(dispatched(spender, RequestKind.KEY, "GET", "/key"), Call.Outcome.OK)
    sandbox.set_limits(spent=sandbox.spent + 2 + 7)

    found = ask()
    assert (found.spent, found.used, found.drift, found.raised_by) == (11, 4, 7, 7)
    assert found.active == {"other": 2}
    assert balance(sandbox) == (11, 11)
    assert ask().raised_by == 0, "the same drift is added only once"
    assert balance(sandbox) == (12, 12)


def test_our_counter_is_not_raised_when_the_reconciliation_cannot_be_stored(sandbox: Sandbox) -> None:
    with spending(consumer="reader", operation="test", calls=1) as spender:
        call = dispatched(spender, RequestKind.KEY, "GET", "/key")
        with pytest.raises(DataError):
            corrections.reconcile(call, spent=9, total=2**40, left=1)
    assert get_status().used == 1


def test_our_counter_is_never_lowered(sandbox: Sandbox) -> None:
    reservations.increment(10)
    assert ask().drift == -10
    assert balance(sandbox) == (1, 11)


def test_calls_on_their_way_do_not_count_as_drift(sandbox: Sandbox) -> None:
    with spending(consumer="reader", operation="test", calls=3) as spender:
        for _ in range(3):
            dispatched(spender, RequestKind.KEY, "GET", "/key")
        found = ask()
    assert (found.drift, found.in_flight, found.raised_by) == (-3, 3, 0)


@pytest.mark.parametrize(("minutes", "in_flight"), [(4, 1), (5, 0)])
def test_a_call_without_an_outcome_is_on_its_way_for_five_minutes(
    sandbox: Sandbox, at: At, minutes: int, in_flight: int
) -> None:
    with spending(consumer="reader", operation="test", calls=1) as spender:
        dispatched(spender, RequestKind.KEY, "GET", "/key")
    at(60 * minutes)
    assert ask().in_flight == in_flight


def test_calls_dispatched_after_the_answer_do_not_hide_drift(sandbox: Sandbox, monkeypatch) -> None:
    sandbox.set_limits(spent=5)
    why_ignored = corrections._why_ignored

    def others_go_on(*answer: Any) -> str:
        """Runs after the moment of the answer is known and before the ledger is read."""
        with spending(consumer="reader", operation="test", calls=4) as spender:
            for _ in range(4):
                dispatched(spender, RequestKind.KEY, "GET", "/key")
        return why_ignored(*answer)

    monkeypatch.setattr(corrections, "_why_ignored", others_go_on)
    found = ask()
    assert (found.spent, found.used, found.raised_by) == (6, 1, 5)
    assert get_status().used == 1 + 4 + 5


@pytest.mark.slow
def test_two_reconciliations_at_once_add_the_same_drift_once(sandbox: Sandbox) -> None:
    sandbox.set_limits(spent=50)

    def ask_and_hang_up(_: int) -> None:
        try:
            ask()
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask_and_hang_up, range(8)))
    # An answer cannot separate calls before it from calls after it, so it can find too little but never too much.
    # The last reconciliation runs alone and finds the rest.
    assert get_status().used <= 58
    ask()
    assert balance(sandbox) == (59, 59)


def test_yesterdays_count_does_not_count_as_todays(sandbox: Sandbox, set_clock: SetClock) -> None:
    clocks(sandbox, set_clock, MIDNIGHT - timedelta(hours=1))
    sandbox.set_limits(spent=8_000)
    ask()
    set_clock(MIDNIGHT + timedelta(minutes=1))  # ISBNdb's clock is still before midnight
    sandbox.set_clock(offset_seconds=(MIDNIGHT - timedelta(seconds=30) - datetime.now(UTC)).total_seconds())
    found = ask()
    assert found.spent > 8_000
    assert "yesterday" in found.ignored
    assert get_status().used == 1

    clocks(sandbox, set_clock, MIDNIGHT + timedelta(minutes=2))
    sandbox.set_limits(spent=30)
    found = ask()
    assert (found.ignored, found.raised_by) == ("", 29), "a lower count than yesterday's belongs to today"
    assert DailyLedger.objects.count() == 2


def test_a_count_that_was_ignored_yesterday_says_nothing_about_today(set_clock: SetClock) -> None:
    def answer(moment: datetime, spent: int) -> Reconciliation:
        set_clock(moment)
        with spending(consumer="reader", operation="test", calls=1) as spender:
            call = dispatched(spender, RequestKind.KEY, "GET", "/key")
            reservations.record(call, Call.Outcome.OK)
            return corrections.reconcile(call, spent=spent, total=15_000, left=15_000 - spent)

    assert answer(MIDNIGHT + timedelta(minutes=5), 12_000).ignored, "the count of the previous day"
    late = answer(MIDNIGHT + timedelta(days=1, minutes=5), 5_000)
    assert (bool(late.ignored), late.raised_by) == (True, 0), "still yesterday's count, because ISBNdb resets late"


def test_in_the_first_hour_yesterdays_count_is_not_todays_also_if_it_has_not_moved(set_clock: SetClock) -> None:
    def answer(moment: datetime) -> Reconciliation:
        set_clock(moment)
        with spending(consumer="reader", operation="test", calls=1) as spender:
            call = dispatched(spender, RequestKind.KEY, "GET", "/key")
            stop_database_clock(moment)
            return corrections.reconcile(call, spent=8_000, total=15_000, left=7_000)

    assert answer(MIDNIGHT - timedelta(hours=1)).ignored == ""
    assert answer(MIDNIGHT + timedelta(minutes=59, seconds=59)).ignored
    assert answer(MIDNIGHT + timedelta(hours=1)).ignored == ""


def test_after_the_first_hour_every_count_belongs_to_today(sandbox: Sandbox, set_clock: SetClock) -> None:
    clocks(sandbox, set_clock, MIDNIGHT + timedelta(hours=1, seconds=5))
    sandbox.set_limits(spent=9_000)
    assert ask().raised_by == 9_000


def test_an_answer_after_the_end_of_the_day_changes_nothing(sandbox: Sandbox, set_clock: SetClock) -> None:
    sandbox.set_limits(spent=100)
    with spending(consumer="reader", operation="test", calls=1) as spender:
        call = dispatched(spender, RequestKind.KEY, "GET", "/key")
        set_clock(MIDNIGHT + timedelta(minutes=1))
        reservations.open_ledger()
        found = corrections.reconcile(call, spent=101, total=15_000, left=14_899)
    assert (found.raised_by, found.ledger_id) == (0, NOON.date())
    assert "ended" in found.ignored


@pytest.mark.parametrize("price", [0, 1])
def test_the_service_measures_what_isbndb_charges_for_its_counter(sandbox: Sandbox, monkeypatch, price: int) -> None:
    monkeypatch.setattr(corrections, "KEY_PRICE_APART", timedelta())
    sandbox.set_plan(key_price=price)
    ask()
    assert get_prices().key_price is None, "one answer is not enough"
    ask()
    assert get_prices().key_price == price
    measurement = PriceMeasurement.objects.get()
    assert (measurement.how, measurement.batch_price) == ("reconciliation", "")
    assert [figure["spent"] for figure in measurement.figures] == [price, 2 * price]
    ask()
    assert PriceMeasurement.objects.count() == 1, "it has not changed"
    assert Call.objects.order_by("id").last().calls == price


def test_two_answers_soon_after_each_other_do_not_show_the_price_of_the_counter(
    sandbox: Sandbox, set_clock: SetClock
) -> None:
    sandbox.set_plan(counter_lag=60)
    ask()
    set_clock(NOON + timedelta(seconds=50))
    ask()
    assert get_prices().key_price is None


def test_with_calls_on_their_way_the_price_of_the_counter_stays_unknown(monkeypatch) -> None:
    monkeypatch.setattr(corrections, "KEY_PRICE_APART", timedelta())
    ask()
    with spending(consumer="reader", operation="test", calls=1) as spender:
        dispatched(spender, RequestKind.KEY, "GET", "/key")
        ask()
        ask()
    assert get_prices().key_price is None


def test_a_large_drift_is_an_error_and_a_small_one_a_warning(sandbox: Sandbox, settings, caplog) -> None:
    settings.QUOTA_DRIFT_ALERT = 10
    for spent, level, today in ((4, "WARNING", 4), (11, "ERROR", 10)):
        caplog.clear()
        sandbox.set_limits(spent=spent)
        ask()
        assert drift_of(NOON.date()) == today
        assert [record.levelname for record in caplog.records if "quota.drift" in record.getMessage()] == [level]


def test_a_plan_of_isbndb_below_our_limit_is_an_error_in_the_log(sandbox: Sandbox, caplog) -> None:
    assert ask().missing == 0
    assert "quota.sold_less" not in caplog.text
    sandbox.set_limits(daily_limit=2_000)
    assert ask().missing == 13_000
    assert [record.levelname for record in caplog.records if "quota.sold_less" in record.getMessage()] == ["ERROR"]


@pytest.mark.parametrize(("spent", "closes"), [(5, False), (6, True), (20, True)])
def test_when_isbndb_has_nothing_left_the_day_is_closed_whoever_spent_the_calls(
    sandbox: Sandbox, *, spent: int, closes: bool
) -> None:
    sandbox.set_limits(daily_limit=6, spent=spent - 1)  # this question is the last call
    with spending(consumer="reader", operation="test", calls=1) as spender:
        found = answer_to(dispatched(spender, RequestKind.KEY, "GET", "/key"), spent=spent, total=6, left=6 - spent)
    assert (found.day_change, found.left) == ("closed" if closes else "", 6 - spent)
    status = get_status()
    assert status.can_make_calls is not closes
    assert (status.remaining == 0) is closes
    if closes:
        assert status.closed_reason == f"ISBNdb's own counter says that nothing is left: {spent} of 6 calls are spent."


def test_a_closed_day_is_opened_again_when_isbndb_has_calls_left(sandbox: Sandbox, closed_day: DispatchedCall) -> None:
    with pytest.raises(QuotaRefused):
        reservations.reserve(consumer="reader", operation="test", calls=1)
    found = answer_to(closed_day, spent=1_000, total=30_000, left=29_000)
    assert found.day_change == "reopened"
    assert get_status().can_make_calls
    reopening = Reopening.objects.get()
    assert (reopening.closed_reason, reopening.made_with, reopening.made_by) == ("a test", "a reconciliation", None)
    assert reopening.reason == "ISBNdb's own counter says that 29,000 of 30,000 calls are left."


def test_an_answer_that_was_asked_for_before_the_day_was_closed_does_not_open_it(closed_day: DispatchedCall) -> None:
    DailyLedger.objects.update(closed_at=closed_day.send_at + timedelta(seconds=1))
    assert answer_to(closed_day, spent=1, total=30_000, left=29_999).day_change == ""
    assert not get_status().can_make_calls


def test_a_counter_that_lags_behind_ours_does_not_open_the_day(closed_day: DispatchedCall) -> None:
    reservations.increment(999)
    assert answer_to(closed_day, spent=996, total=1_000, left=4).day_change == ""
    assert not get_status().can_make_calls


def test_yesterdays_count_neither_closes_nor_opens_the_day(set_clock: SetClock) -> None:
    set_clock(MIDNIGHT + timedelta(minutes=5))
    with spending(consumer="reader", operation="test", calls=1) as spender:
        call = dispatched(spender, RequestKind.KEY, "GET", "/key")
        found = corrections.reconcile(call, spent=15_000, total=15_000, left=0)
    assert (bool(found.ignored), found.day_change) == (True, "")
    assert get_status().can_make_calls


def test_after_a_correction_the_journal_still_adds_up_to_the_ledger(sandbox: Sandbox) -> None:
    sandbox.set_limits(spent=20)
    ask()
    assert check_ledger(get_status().day) == []


# --- The price of a batch


@pytest.fixture
def measured(settings, consumer: Consumer) -> None:
    """A batch is charged by the request, as it was measured once."""
    settings.ISBNDB_BATCH_PRICE = "measure"
    settings.ISBNDB_BATCH_SIZE = 10
    reservations.open_ledger()
    record_measurement(day=NOON.date(), how=PriceMeasurement.How.PROBE, figures=[], batch_price="request", key_price=1)


def batches(sizes: list[int], *, start: int = 0) -> None:
    for size in sizes:
        enrich_isbns(known_isbns(start + size)[start:], consumer="reader")
        start += size


@pytest.mark.usefixtures("measured")
def test_a_price_that_changes_at_noon_is_in_force_after_one_reconciliation(sandbox: Sandbox, caplog) -> None:
    batches([10, 10])
    sandbox.set_plan(batch_price="isbn")
    batches([7, 10, 3], start=20)
    assert balance(sandbox) == (22, 5)
    found = ask()
    assert (found.price_seen, found.raised_by) == ("isbn", 17)
    assert balance(sandbox) == (23, 23)
    prices = get_prices()
    assert (prices.batch_price, prices.chosen_by) == ("isbn", "measurement")
    measurement = PriceMeasurement.objects.latest("id")
    assert (measurement.how, measurement.figures[1]["spent"], measurement.figures[1]["ours"]) == (
        "reconciliation",
        23,
        6,
    )
    assert [record.levelname for record in caplog.records if "quota.price_seen" in record.getMessage()] == ["ERROR"]

    batches([10], start=40)
    assert balance(sandbox) == (33, 33)
    assert ask().price_seen == ""
    assert PriceMeasurement.objects.exclude(batch_price="").count() == 2


@pytest.mark.usefixtures("measured")
@pytest.mark.parametrize("more", [1, 8, 10, 500])
def test_drift_that_no_price_explains_changes_no_price(sandbox: Sandbox, more: int) -> None:
    batches([10, 10])
    sandbox.set_limits(spent=sandbox.spent + more)
    found = ask()
    assert (found.price_seen, found.raised_by) == ("", more)
    assert get_prices().batch_price == "request"


@pytest.mark.usefixtures("measured")
def test_requests_that_isbndb_does_not_charge_do_not_hide_the_price(sandbox: Sandbox) -> None:
    sandbox.set_plan(batch_price="isbn", charge_failed=False)
    sandbox.add_fault("status", status=500, times=1)
    batches([10, 10])
    found = ask()
    assert (found.price_seen, found.raised_by) == ("isbn", 17)
    assert balance(sandbox) == (21, 21)


@pytest.mark.usefixtures("measured")
def test_a_few_calls_of_others_do_not_hide_the_higher_price(sandbox: Sandbox) -> None:
    sandbox.set_plan(batch_price="isbn")
    batches([10, 10])
    sandbox.set_limits(spent=sandbox.spent + 1)
    found = ask()
    assert (found.price_seen, found.raised_by) == ("isbn", 19)
    assert get_prices().batch_price == "isbn"


@pytest.mark.usefixtures("measured")
def test_a_batch_under_way_does_not_hide_the_price(sandbox: Sandbox) -> None:
    sandbox.set_plan(batch_price="isbn")
    batches([10, 10])
    with spending(consumer="reader", operation="test", calls=1) as spender:
        dispatched(spender, RequestKind.BATCH, "POST", "/books", isbns_asked=500)
        assert ask().price_seen == "isbn"


@pytest.mark.usefixtures("measured")
def test_a_price_that_somebody_chose_stays_and_the_difference_is_on_record(sandbox: Sandbox) -> None:
    Switches.objects.create(batch_price="request")
    sandbox.set_plan(batch_price="isbn")
    for number in range(2):
        batches([10], start=10 * number)
        assert (ask().price_seen, get_prices().batch_price) == ("isbn", "request")
        assert balance(sandbox)[0] == balance(sandbox)[1]
    assert PriceMeasurement.objects.filter(batch_price="isbn").count() == 1


@pytest.mark.usefixtures("measured")
def test_a_lower_price_is_only_offered_and_a_person_confirms_it(sandbox: Sandbox) -> None:
    Consumer.objects.create(slug="other")
    record_measurement(day=NOON.date(), how=PriceMeasurement.How.PROBE, figures=[], batch_price="isbn")
    batches([10, 10])
    with spending(consumer="other", operation="test", calls=0) as spender:
        ask_isbndb(key_usage(spender))
    found = ask()
    assert (found.price_seen, found.excess, found.raised_by) == ("request", 18, 0)
    assert get_prices().batch_price == "isbn"
    assert balance(sandbox) == (4, 22)

    assert corrections.take_figure(found, reason="The plan has changed.", made_with="a test") == 18
    assert balance(sandbox) == (4, 4)
    assert get_prices().batch_price == "request"
    assert PriceMeasurement.objects.latest("id").how == "person"
    [adjustment] = Adjustment.objects.all()
    assert (adjustment.consumer.slug, adjustment.calls, adjustment.reconciliation_id) == ("reader", -18, found.pk)
    with pytest.raises(CorrectionRefused, match="newest"):
        corrections.take_figure(found, reason="Twice.", made_with="a test")
    batches([10], start=20)
    found = ask()
    assert (found.price_seen, found.drift) == ("", 0)


def test_taking_isbndbs_figure_gives_back_to_those_whose_requests_failed_first(sandbox: Sandbox) -> None:
    Consumer.objects.create(slug="other")
    sandbox.set_plan(charge_failed=False)
    with spending(consumer="other", operation="test", calls=0) as spender:
        for _ in range(5):
            ask_isbndb(key_usage(spender))
    sandbox.add_fault("status", status=500, times=2)
    batches([2])
    sandbox.set_limits(spent=sandbox.spent - 1)
    found = ask()
    assert (found.excess, found.price_seen) == (3, "")
    assert corrections.take_figure(found, reason="Failures are free.", made_with="a test") == 3
    assert balance(sandbox) == (found.spent, found.spent)
    taken = Adjustment.objects.order_by("id").values_list("consumer__slug", "calls")
    assert list(taken) == [("reader", -2), ("other", -1)]


def test_isbndbs_figure_cannot_be_taken_when_it_is_unclear(sandbox: Sandbox) -> None:
    def refuse(found: Reconciliation, reason: str = "Because.") -> None:
        with pytest.raises(CorrectionRefused):
            corrections.take_figure(found, reason=reason, made_with="a test")

    refuse(ask())  # both are equal
    sandbox.set_limits(spent=0)
    old = ask()
    refuse(old, " ")
    new = ask()
    refuse(old)
    reservations.increment(1)
    refuse(new)
    with spending(consumer="reader", operation="test", calls=1) as spender:
        dispatched(spender, RequestKind.KEY, "GET", "/key")
        refuse(ask())
    assert not Adjustment.objects.exists()


def test_isbndbs_figure_of_yesterday_cannot_be_taken(sandbox: Sandbox, set_clock: SetClock) -> None:
    reservations.increment(5)
    found = ask()
    set_clock(MIDNIGHT + timedelta(minutes=1))
    with pytest.raises(CorrectionRefused):
        corrections.take_figure(found, reason="Because.", made_with="a test")
    assert DailyLedger.objects.get(pk=NOON.date()).used == 6


# --- What ISBNdb sells


def limits_of_today() -> tuple[int, int]:
    ledger = DailyLedger.objects.get(pk=get_status().day)
    return ledger.daily_limit, ledger.safety_buffer


@pytest.mark.parametrize(("sold", "buffer"), [(14_000, 2_000), (4_000, 2_000), (3_999, 533), (500, 66)])
def test_a_plan_below_our_limit_lowers_todays_ledger_at_once(sandbox: Sandbox, sold: int, buffer: int) -> None:
    sandbox.set_limits(daily_limit=sold)
    found = ask()
    assert (found.limit_from, found.limit_to, found.missing) == (15_000, sold, 15_000 - sold)
    assert limits_of_today() == (sold, buffer)
    again = ask()
    assert (again.limit_from, again.limit_to) == (None, None)


def test_a_plan_bought_at_noon_raises_what_a_reconciliation_has_lowered(sandbox: Sandbox) -> None:
    sandbox.set_limits(daily_limit=500)
    ask()
    sandbox.set_limits(daily_limit=1_000)
    assert ask().limit_to == 1_000
    sandbox.set_limits(daily_limit=20_000)
    found = ask()
    assert (found.limit_from, found.limit_to, found.missing) == (1_000, 15_000, 0)
    assert limits_of_today() == (15_000, 2_000)


def test_a_limit_that_a_person_has_lowered_is_not_raised(sandbox: Sandbox) -> None:
    ask()
    Switches.objects.create(daily_limit=3_000)
    corrections.apply_limits()
    assert ask().limit_to is None
    assert limits_of_today() == (3_000, 2_000)


def test_an_answer_that_is_not_used_changes_no_limit(sandbox: Sandbox, set_clock: SetClock) -> None:
    set_clock(MIDNIGHT + timedelta(minutes=1))
    sandbox.set_limits(spent=400, daily_limit=500)
    assert ask().ignored
    assert limits_of_today() == (15_000, 2_000)

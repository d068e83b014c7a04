"""The probe: what ISBNdb charges is measured by its own counter, and until then the higher price is charged."""

import itertools
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection

from alexandria.development.sandbox.server import Sandbox
from enrichment.exceptions import EnrichmentStopped
from enrichment.gateway import asking
from enrichment.gateway.asking import ask
from enrichment.gateway.questions import key_usage
from enrichment.models import Edition
from enrichment.services import prices
from enrichment.services.enrich import Enrichment, enrich_isbns
from enrichment.services.prices import settled_prices
from quota.models import Call, Consumer, DailyLedger, PriceMeasurement, Refusal, Reservation, Switches
from quota.prices import BatchPrice, RequestKind
from quota.selectors.prices import get_prices
from quota.selectors.status import check_ledger, get_status
from quota.services import reservations
from quota.services.prices import hold_pace
from quota.spending import spending
from tests import processes
from tests.fixtures import NOON, SetClock, balance, dispatched, known_isbns

SHORT = 0.05


@pytest.fixture(autouse=True)
def unknown_price(settings, monkeypatch, consumer: Consumer, sandbox: Sandbox) -> None:
    """Nothing is known yet, and a minute takes a quarter of a second."""
    settings.ISBNDB_BATCH_PRICE = "measure"
    settings.ISBNDB_BATCH_SIZE = 10
    monkeypatch.setattr(prices, "PAUSES", (SHORT,) * 5)
    monkeypatch.setattr(prices, "POLL", 0.01)
    monkeypatch.setattr(prices, "QUIET_WAIT", 0.5)


def enrich(count: int = 6, *, start: int = 0) -> Enrichment:
    return enrich_isbns(known_isbns(start + count)[start:], consumer="reader")


def sent() -> list[tuple[str, int | None, int]]:
    """What was sent, in order: path, ISBNs asked for, price."""
    return list(Call.objects.order_by("id").values_list("path", "isbns_asked", "calls"))


def at_each_pause(monkeypatch, then: Callable[[int], object]) -> None:
    """Runs `then` with the number of the question, from 0, before each question that comes after the batch."""
    numbers = itertools.count()
    wait = prices._wait

    def wait_and_then(*args) -> None:
        wait(*args)
        then(next(numbers))

    monkeypatch.setattr(prices, "_wait", wait_and_then)


def never_under(sandbox: Sandbox) -> None:
    counted, used = balance(sandbox)
    assert used >= counted


@pytest.mark.parametrize(
    ("spent", "is_last", "found"),
    [
        ([10, 11, 11], False, ("request", 0)),
        ([10, 12, 13], False, ("request", 1)),
        ([10, 12, 12], False, ("isbn", 0)),
        ([10, 13, 14], False, ("isbn", 1)),
        ([10, 11], False, None),  # two counts cannot tell the price of the question
        ([10, 10, 10], True, None),  # it lags
        ([10, 14, 14], True, None),  # another spender
        ([10, 12, 11], True, None),  # it runs backwards
        ([10, 10, 12, 12], False, ("isbn", 0)),  # it lagged
        ([10, 10, 11, 11], False, None),  # the lower price, from a counter that lags: not yet
        ([10, 10, 11, 11], True, ("request", 0)),
        ([10, 11, 13, 14], True, None),  # by the ISBN, and one question is not counted yet
        ([10, 9, 11, 11], True, None),
        ([10, 11, 13, 13], False, None),
    ],
)
def test_only_counts_that_one_price_explains_settle_it(
    spent: list[int], found: tuple[str, int] | None, *, is_last: bool
) -> None:
    assert settled_prices(spent, range(len(spent)), is_last=is_last) == found


@pytest.mark.parametrize(
    ("spent", "settled"),
    [
        ([0, 0, 3, 4, 5, 6, 7], True),  # it lags for less than 6 seconds
        ([0, 0, 0, 4, 5, 6, 7], False),  # it lags for up to 14 seconds, which may hide a question
        ([0, 0, 0, 0, 5, 6, 7], False),
        ([0, 0, 3, 4, 4, 6, 7], False),  # it does not move evenly
    ],
)
def test_from_a_counter_that_lags_and_costs_the_lower_price_needs_a_long_pause(
    spent: list[int], *, settled: bool
) -> None:
    at = list(itertools.accumulate([0, 0.7, 5, 8, 12, 15, 15]))
    assert settled_prices(spent, at, is_last=True) == (("request", 1) if settled else None)


@pytest.mark.parametrize("key_price", [0, 1])
@pytest.mark.parametrize("batch_price", ["request", "isbn"])
def test_the_first_batch_is_preceded_by_a_probe_of_two_of_its_isbns(
    sandbox: Sandbox, batch_price: str, key_price: int
) -> None:
    sandbox.set_plan(batch_price=batch_price, key_price=key_price)
    result = enrich(6)
    assert (result.enriched, Edition.objects.count()) == (6, 6)
    rest = 1 if batch_price == "request" else 4
    assert sent() == [("/key", None, 1), ("/books", 2, 2), ("/key", None, 1), ("/key", None, 1), ("/books", 4, rest)]
    assert result.api_calls == 2 + 3 + rest

    found = get_prices()
    assert (found.batch_price, found.key_price, found.chosen_by) == (batch_price, key_price, "measurement")
    measurement = PriceMeasurement.objects.get()
    assert [figure["call"] for figure in measurement.figures] == [
        row.pk for row in Call.objects.filter(path="/key").order_by("id")
    ]
    assert (measurement.how, measurement.note) == ("probe", "")
    never_under(sandbox)

    before = balance(sandbox)
    enrich(6, start=6)
    after = balance(sandbox)
    assert after[0] - before[0] == after[1] - before[1] == (1 if batch_price == "request" else 6)


def catches_up_at(question: int, sandbox: Sandbox, monkeypatch) -> None:
    """The counter shows nothing of this hour until that question after the batch."""
    sandbox.set_plan(counter_lag=3600)
    at_each_pause(monkeypatch, lambda number: number == question and sandbox.set_plan(counter_lag=0))


def test_a_counter_that_lags_is_asked_again_until_it_has_caught_up(sandbox: Sandbox, monkeypatch) -> None:
    sandbox.set_plan(batch_price="isbn", key_price=0)
    catches_up_at(2, sandbox, monkeypatch)
    enrich()
    assert get_prices().batch_price is BatchPrice.ISBN
    assert [figure["spent"] for figure in PriceMeasurement.objects.get().figures] == [0, 0, 0, 2, 2]


def test_the_lower_price_is_taken_from_a_counter_that_lags_only_at_the_end(sandbox: Sandbox, monkeypatch) -> None:
    sandbox.set_plan(batch_price="request", key_price=0)
    catches_up_at(2, sandbox, monkeypatch)
    enrich()
    assert get_prices().batch_price is BatchPrice.REQUEST
    assert [figure["spent"] for figure in PriceMeasurement.objects.get().figures] == [0, 0, 0, 1, 1, 1, 1]


def test_a_counter_that_stands_still_settles_nothing_and_the_higher_price_is_charged(sandbox: Sandbox) -> None:
    sandbox.set_plan(batch_price="isbn", counter_lag=3600)
    result = enrich(6)
    assert result.enriched == 6
    assert get_prices().batch_price is BatchPrice.UNKNOWN
    measurement = PriceMeasurement.objects.get()
    assert (measurement.batch_price, measurement.key_price, len(measurement.figures)) == ("", None, 7)
    assert "lags" in measurement.note
    assert sent()[-1] == ("/books", 4, 4)
    assert balance(sandbox) == (6 + 7, 6 + 7)


@pytest.mark.parametrize("batch_price", ["request", "isbn"])
@pytest.mark.parametrize("each", [1, 5, -3])
def test_a_counter_that_something_else_moves_settles_nothing(
    sandbox: Sandbox, monkeypatch, batch_price: str, each: int
) -> None:
    sandbox.set_plan(batch_price=batch_price, key_price=1)
    at_each_pause(monkeypatch, lambda number: sandbox.set_limits(spent=max(0, sandbox.spent + each + number)))
    enrich()
    assert get_prices().batch_price is BatchPrice.UNKNOWN
    assert sent()[-1] == ("/books", 4, 4)


@pytest.mark.parametrize("at", range(6))
@pytest.mark.parametrize("late", [0, 1, 3])
def test_one_call_of_another_spender_never_makes_a_batch_look_cheaper(
    sandbox: Sandbox, monkeypatch, at: int, late: int
) -> None:
    """The counter is as it was `late` questions ago."""
    sandbox.set_plan(batch_price="isbn", key_price=at % 2)
    shown = [0] * (late + 1)
    monkeypatch.setattr(sandbox.meter, "reported", lambda: shown[-1 - late])

    def one_more(number: int) -> None:
        if number == at:
            sandbox.set_limits(spent=sandbox.spent + 1)
        shown.append(sandbox.spent)

    at_each_pause(monkeypatch, one_more)
    enrich()
    assert get_prices().batch_price is not BatchPrice.REQUEST


def test_one_call_of_another_spender_before_a_lagging_probe_never_makes_a_batch_look_cheaper(
    sandbox: Sandbox, monkeypatch
) -> None:
    sandbox.set_plan(batch_price="isbn", key_price=0)
    shown = iter([5, 5, 6, 6, 6, 8, 8])  # the other's call becomes visible first, then the batch
    monkeypatch.setattr(sandbox.meter, "reported", lambda: next(shown))
    enrich()
    assert get_prices().batch_price is not BatchPrice.REQUEST


def test_the_next_batch_probes_again_and_after_three_in_vain_only_every_ten_minutes(
    sandbox: Sandbox, set_clock: SetClock
) -> None:
    sandbox.set_plan(batch_price="isbn", counter_lag=3600)
    for number in range(4):
        enrich(2, start=2 * number)
    assert PriceMeasurement.objects.count() == 3
    assert sent()[-1] == ("/books", 2, 2)
    sandbox.set_plan(counter_lag=0)
    set_clock(NOON + timedelta(minutes=11))
    enrich(2, start=8)
    assert get_prices().batch_price is BatchPrice.ISBN


def test_a_single_isbn_and_a_price_that_is_chosen_need_no_probe(sandbox: Sandbox) -> None:
    enrich(1)
    Switches.objects.create(batch_price="isbn")
    enrich(3, start=1)
    assert sent() == [("/books", 1, 1), ("/books", 3, 3)]
    assert not PriceMeasurement.objects.exists()


def test_nothing_of_ours_is_sent_between_the_requests_of_a_probe(sandbox: Sandbox, monkeypatch) -> None:
    Consumer.objects.create(slug="other")
    begun = threading.Event()

    def other_request() -> None:
        begun.wait(10)
        try:
            with spending(consumer="other", operation="test", calls=0) as spender:
                ask(key_usage(spender))
        finally:
            connection.close()

    def others_try(number: int) -> None:
        begun.set()
        time.sleep(0.1)

    at_each_pause(monkeypatch, others_try)
    monkeypatch.setattr(prices, "HOLD_MARGIN", 5.0)
    sandbox.set_plan(batch_price="isbn")
    thread = threading.Thread(target=other_request)
    thread.start()
    enrich()
    thread.join()
    consumers = list(Call.objects.order_by("id").values_list("consumer__slug", flat=True))
    assert consumers[:4] == ["reader"] * 4
    assert "other" in consumers[4:]
    assert get_prices().batch_price is BatchPrice.ISBN


def test_a_request_that_came_in_between_spoils_the_figures(sandbox: Sandbox, monkeypatch) -> None:
    Consumer.objects.create(slug="other")

    def hold_lost(number: int) -> None:
        if number == 0:
            DailyLedger.objects.update(probe_by=None, probe_until=None)
            with spending(consumer="other", operation="test", calls=0) as spender:
                dispatched(spender, RequestKind.KEY, "GET", "/key")

    at_each_pause(monkeypatch, hold_lost)
    enrich()
    assert get_prices().batch_price is BatchPrice.UNKNOWN
    assert "in between" in PriceMeasurement.objects.get().note


def test_while_a_request_is_under_way_there_is_no_probe(sandbox: Sandbox) -> None:
    Consumer.objects.create(slug="other")
    with spending(consumer="other", operation="test", calls=0) as spender:
        dispatched(spender, RequestKind.PAGE, "GET", "/author/x")
        enrich(6)
    assert sent()[1:] == [("/books", 6, 6)]
    assert Reservation.objects.filter(state="open").count() == 0


def test_two_processes_measure_only_once(sandbox: Sandbox) -> None:
    sandbox.set_plan(batch_price="request")
    Consumer.objects.create(slug="other")

    def run(start: int) -> Enrichment:
        try:
            return enrich(6, start=start)
        finally:
            connection.close()

    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(run, [0, 6, 12]))
    assert [result.enriched for result in results] == [6, 6, 6]
    assert PriceMeasurement.objects.count() == 1
    assert sorted(isbns or 0 for path, isbns, _ in sent() if path == "/books") == [2, 4, 6, 6]
    counted, used = balance(sandbox)
    assert used - counted == 1  # the two ISBNs of the probe were charged before the price was known


def test_without_calls_for_a_probe_the_batch_is_charged_the_higher_price(sandbox: Sandbox) -> None:
    Consumer.objects.filter(slug="reader").update(daily_budget=8)
    result = enrich(6)
    assert (result.enriched, sent()) == (6, [("/books", 6, 6)])
    assert not Refusal.objects.exists()


def test_questions_that_the_quota_refuses_end_the_probe_and_lose_no_book(sandbox: Sandbox) -> None:
    Consumer.objects.filter(slug="reader").update(daily_budget=9)
    sandbox.set_plan(batch_price="isbn", counter_lag=3600)
    result = enrich(6)
    assert (result.enriched, balance(sandbox)) == (6, (9, 9))
    assert "stopped early" in PriceMeasurement.objects.get().note


def test_when_the_counter_cannot_be_asked_the_batch_is_sent_without_a_probe(sandbox: Sandbox) -> None:
    sandbox.add_fault("status", status=500, path="/key")
    result = enrich(6)
    assert result.enriched == 6
    assert sent()[-1] == ("/books", 6, 6)
    never_under(sandbox)


def test_a_probe_whose_batch_fails_frees_the_pace(sandbox: Sandbox) -> None:
    sandbox.add_fault("status", status=500, path="/books")
    with pytest.raises(EnrichmentStopped):
        enrich(6)
    sandbox.clear_faults()
    assert enrich(6).enriched == 6
    assert get_prices().batch_price is not BatchPrice.UNKNOWN
    never_under(sandbox)


def test_a_probe_whose_batch_fails_is_on_record_and_after_three_there_is_no_other_at_once(sandbox: Sandbox) -> None:
    sandbox.add_fault("status", status=400, path="/books")
    for _ in range(4):
        with pytest.raises(EnrichmentStopped):
            enrich(6)
    notes = set(PriceMeasurement.objects.values_list("note", flat=True))
    assert (PriceMeasurement.objects.count(), len(notes)) == (3, 1)
    assert "did not answer the batch" in notes.pop()
    assert [path for path, *_ in sent()] == ["/key", "/books"] * 3 + ["/books"]


def test_what_is_reserved_for_the_higher_price_goes_back_once_the_lower_is_known(sandbox: Sandbox, monkeypatch) -> None:
    sandbox.set_plan(batch_price="request")
    reserved = []
    judge = asking._Asking._judge

    def look(flow, attempt):
        reserved.append(get_status().reserved)
        return judge(flow, attempt)

    monkeypatch.setattr(asking._Asking, "_judge", look)
    enrich(40)
    assert reserved[0] >= 40
    assert reserved[-1] == 1


@pytest.mark.slow
@pytest.mark.parametrize("question", [1, 2, 3])
def test_a_killed_probe_leaves_the_higher_price_and_its_hold_ends_by_itself(
    sandbox: Sandbox, set_clock: SetClock, question: int
) -> None:
    sandbox.set_plan(batch_price="isbn")
    worker = subprocess.Popen(
        [sys.executable, "-m", "tests.enrichment.doomed_prober", str(question), *known_isbns(12)[6:]],
        env=processes.environment() | {"ISBNDB_BATCH_PRICE": "measure"},
        stdout=subprocess.PIPE,
        text=True,
    )
    with worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "waiting\n"
        worker.kill()
    assert worker.returncode == -signal.SIGKILL
    assert get_prices().batch_price is BatchPrice.UNKNOWN
    held = Reservation.objects.get()
    with spending(consumer="reader", operation="test", calls=1) as spender:
        spender.hold(1)
        assert spender.reservation is not None
        assert not hold_pace(spender.reservation, seconds=1)
    set_clock(NOON + timedelta(minutes=10))
    reservations.expire()
    assert Reservation.objects.get(pk=held.pk).state == "expired"
    never_under(sandbox)
    enrich(6)
    assert get_prices().batch_price is BatchPrice.ISBN
    never_under(sandbox)
    assert check_ledger(get_status().day) == []

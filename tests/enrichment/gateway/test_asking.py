"""Many requests of one operation under way at once: how many, who talks to the database, and how everything stops."""

import gc
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch

import pytest
from celery.signals import worker_shutting_down
from django.db import connection, connections

from alexandria.common.stopping import STOPPING
from alexandria.development.sandbox.faults import Fault, Faults
from alexandria.development.sandbox.server import Sandbox
from enrichment.books.decoding import Answer
from enrichment.exceptions import IsbndbError, IsbndbKeyRefused, IsbndbUnavailable, IsbndbUndecodable
from enrichment.gateway import asking, questions
from enrichment.gateway import connection as isbndb
from enrichment.gateway.asking import ask, ask_each
from enrichment.gateway.questions import Exchanged, Question, batch_of
from enrichment.gateway.replies import Reply
from quota.exceptions import PaceTimeout, QuotaRefused, ServiceStops
from quota.models import Call, Consumer, Reservation
from quota.prices import RequestKind
from quota.selectors.status import get_status
from quota.services import reservations
from quota.spending import Payer, for_one_question, spending
from tests.fixtures import NOON, At, balance, known_isbns, stop_database_clock

pytestmark = pytest.mark.usefixtures("consumer", "sandbox")

MIDNIGHT = datetime(2026, 5, 6, tzinfo=UTC)
TOO_FAST = {"status": 429, "body": {"message": "Per minute quota exceeded"}}


class Gate(Faults):
    """Requests for books wait at the gate until it opens, or until `opens_for` of them are there."""

    def __init__(self, opens_for: int = 10_000) -> None:
        super().__init__()
        self.there = 0
        self.most_there = 0
        self._opens_for = opens_for
        self._changed = threading.Condition()
        self._is_open = False

    def meet(self, path: str) -> tuple[float, Fault | None]:
        with self._changed:
            self.there += 1
            self.most_there = max(self.most_there, self.there)
            if self.there >= self._opens_for:
                self._is_open = True
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: self._is_open, timeout=60)
            self.there -= 1
        return super().meet(path)

    def wait_for(self, requests: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.there >= requests, timeout=60)

    def open(self) -> None:
        with self._changed:
            self._is_open = True
            self._changed.notify_all()


@pytest.fixture
def gate(sandbox: Sandbox) -> Iterator[Gate]:
    sandbox.faults = gate = Gate()
    yield gate
    gate.open()


@pytest.fixture(autouse=True)
def no_latency_is_known(monkeypatch) -> None:
    for latencies in asking._LATENCIES.values():
        latencies.clear()


def payer() -> Payer:
    return for_one_question(consumer="reader", operation="test")


def questions_for(number: int, made_by: Callable[[], Payer] = payer) -> Callable[[], Question[Answer] | None]:
    """So many questions, each for the next ISBN."""
    isbns = iter(known_isbns(number))

    def next_question() -> Question[Answer] | None:
        isbn = next(isbns, None)
        return None if isbn is None else batch_of([isbn], made_by())

    return next_question


def found(exchanged: Exchanged[Answer]) -> str | None:
    return exchanged.answer.books[0].isbn13 if exchanged.answer else None


def outcomes() -> list[str]:
    return list(Call.objects.order_by("id").values_list("outcome", flat=True))


def test_many_requests_are_under_way_and_each_answer_comes_with_its_question(sandbox: Sandbox) -> None:
    sandbox.faults = gate = Gate(opens_for=6)
    wanted = known_isbns(6)
    asked: dict[Question[Answer], str] = {}
    isbns = iter(wanted)

    def next_question() -> Question[Answer] | None:
        isbn = next(isbns, None)
        if isbn is None:
            return None
        question = batch_of([isbn], payer())
        asked[question] = isbn
        return question

    came = {asked[exchanged.question]: found(exchanged) for exchanged in ask_each(next_question)}
    assert came == {isbn: isbn for isbn in wanted}
    assert gate.most_there == 6
    assert balance(sandbox) == (6, 6)
    assert set(Reservation.objects.values_list("state", flat=True)) == {"settled"}


def test_one_at_a_time_never_has_two_requests_under_way(sandbox: Sandbox, one_at_a_time: None) -> None:
    """The counterpart of the test above: without concurrency, a gate that waits for two stays shut."""
    sandbox.faults = gate = Gate(opens_for=1)
    assert len(list(ask_each(questions_for(4)))) == 4
    assert gate.most_there == 1


def test_at_most_sixteen_are_under_way_and_an_answer_counts_until_it_is_taken(sandbox: Sandbox) -> None:
    sandbox.faults = gate = Gate(opens_for=asking.MAX_UNDER_WAY)
    asked = 0
    next_question = questions_for(40)

    def counted() -> Question[Answer] | None:
        nonlocal asked
        asked += 1
        return next_question()

    answers = ask_each(counted)
    next(answers)
    assert (asked, gate.most_there) == (asking.MAX_UNDER_WAY, asking.MAX_UNDER_WAY)
    assert len(list(answers)) == 39


def test_as_many_are_under_way_as_pace_and_latency_ask_for(gate: Gate) -> None:
    asking._LATENCIES[RequestKind.BATCH] += [0.02, 0.031]  # the pace has a send time every 10.5 ms
    flow = asking._Asking(questions_for(20), pace=0.0105)
    while flow._send_next() is not None:
        time.sleep(0.001)
    assert len(flow.under_way) == 4, "three in 31 ms, and one"
    gate.open()
    assert len(list(flow.results())) == 20


def test_only_the_calling_thread_talks_to_the_database(monkeypatch) -> None:
    used: set[str] = set()
    exchange = isbndb.exchange

    def look(*args: Any) -> Reply:
        reply = exchange(*args)
        used.update(alias for alias in connections if connections[alias].connection is not None)
        return reply

    monkeypatch.setattr(isbndb, "exchange", look)
    assert len(list(ask_each(questions_for(5)))) == 5
    assert used == set()


def test_while_a_request_is_under_way_the_connection_is_kept_to_store_its_answer(monkeypatch, sandbox: Sandbox) -> None:
    monkeypatch.setattr(asking, "NAP", timedelta(milliseconds=20))
    sandbox.add_fault("latency", seconds=0.3)
    connection.ensure_connection()
    before = connection.connection.info.backend_pid
    assert [connection.connection.info.backend_pid for _ in ask_each(questions_for(2))] == [before, before]


def test_a_process_that_is_told_to_end_asks_no_more_and_takes_what_is_under_way(sandbox: Sandbox) -> None:
    questions = questions_for(40)
    try:
        with pytest.raises(ServiceStops):
            for exchanged in ask_each(questions):
                assert exchanged.is_answered
                worker_shutting_down.send(sender=None)
    finally:
        STOPPING.clear()
    assert set(Call.objects.values_list("outcome", flat=True)) == {"ok"}
    sent = sandbox.spent
    assert (get_status().used, get_status().reserved, sent <= asking.MAX_UNDER_WAY) == (sent, 0, True)
    assert len(list(ask_each(questions))) == 40 - sent


def test_a_pause_of_the_fleet_beyond_the_patience_for_the_pace_is_not_waited_for() -> None:
    with spending(consumer="reader", operation="test", calls=2) as spender:
        ask(batch_of(known_isbns(1), spender))
        reservations.slow_down(spender.dispatched[-1], seconds=900)
        flow = asking._Asking(questions_for(1, lambda: spender), pace=0.001)
        assert flow._send_next() is None, "there is nothing to look at again"
        with pytest.raises(PaceTimeout):
            list(flow.results())
    assert (get_status().used, get_status().reserved) == (1, 0)


@pytest.mark.usefixtures("one_at_a_time")
def test_a_question_keeps_its_patience_for_the_pace_while_another_is_asked_again(sandbox: Sandbox) -> None:
    failed, waiting = (asking._Attempt(batch_of([isbn], payer()), wait_until=0.0) for isbn in known_isbns(2))
    flow: asking._Asking[Answer] = asking._Asking(lambda: None, pace=0.001, pending=waiting)
    flow.retries.append(failed)
    flow._send_next()
    assert flow.under_way == {failed}
    assert waiting.wait_until == math.inf
    assert len(list(flow.results())) == 2


def test_a_question_outlives_the_lease_of_its_reservation(sandbox: Sandbox, at: At, monkeypatch) -> None:
    """Because others were asked again before it: here it waits so long for its own retry."""
    pause = asking._pause_before_retry

    def long_pause(*args: Any) -> float | None:
        at(reservations.LEASE.total_seconds() + 1)
        return pause(*args)

    monkeypatch.setattr(asking, "_pause_before_retry", long_pause)
    sandbox.add_fault("status", status=503, times=1)
    [exchanged] = ask_each(questions_for(1))
    assert found(exchanged)
    assert list(Reservation.objects.order_by("created_at").values_list("calls", "dispatched", "state")) == [
        (1, 1, "settled"),
        (1, 1, "settled"),
    ]
    assert balance(sandbox) == (2, 2)


def test_a_failed_question_is_handed_on_and_does_not_stop_the_others(sandbox: Sandbox) -> None:
    sandbox.add_fault("garbage", times=1)
    results = list(ask_each(questions_for(6)))
    assert sum(found(each) is not None for each in results) == 5
    [failed] = [each for each in results if each.failure]
    assert isinstance(failed.failure, IsbndbUndecodable)
    assert balance(sandbox) == (6, 6)


@pytest.mark.usefixtures("one_at_a_time")
def test_while_a_question_waits_for_its_retry_no_other_begins(sandbox: Sandbox) -> None:
    sandbox.add_fault("status", status=503, times=2)
    results = list(ask_each(questions_for(3)))
    assert [found(each) for each in results] == known_isbns(3)
    assert outcomes() == ["server_error", "server_error", "ok", "ok", "ok"]
    assert len({*Call.objects.order_by("id").values_list("reservation", flat=True)[:3]}) == 1


@pytest.mark.slow
def test_while_a_question_that_came_too_fast_is_asked_again_others_begin(sandbox: Sandbox) -> None:
    sandbox.add_fault("status", **TOO_FAST, times=1)
    asked, another_begins = questions_for(2), threading.Event()
    meet, waited = sandbox.faults.meet, list[bool]()

    def let_the_retry_wait(path: str) -> tuple[float, Fault | None]:
        if len(sandbox.requests) == 2:
            waited.append(another_begins.wait(5))
        return meet(path)

    def next_question() -> Question[Answer] | None:
        if not Call.objects.exists():
            return asked()
        if "too_fast" not in outcomes():
            return None
        another_begins.set()
        return asked()

    with patch.object(sandbox.faults, "meet", let_the_retry_wait):
        assert [found(each) is None for each in ask_each(next_question)] == [False, False]
    assert waited == [True]


@pytest.mark.usefixtures("one_at_a_time")
def test_after_an_answer_failed_questions_are_asked_again_as_before(sandbox: Sandbox) -> None:
    sandbox.add_fault("status", status=503, times=3)
    asked = questions_for(3)
    results: list[str | None] = []
    for each in ask_each(asked):
        results.append(found(each))
        if len(results) == 2:
            sandbox.add_fault("status", status=503, times=1)
    assert results == [None, *known_isbns(3)[1:]]
    assert outcomes() == [*["server_error"] * 3, "ok", "server_error", "ok"]


def test_when_isbndb_is_down_only_one_of_those_under_way_is_tried_again(sandbox: Sandbox) -> None:
    sandbox.faults = Gate(opens_for=8)
    sandbox.add_fault("status", status=503)
    asked = questions_for(8)
    failures: list[IsbndbError | None] = []
    for each in ask_each(lambda: None if failures else asked()):
        failures.append(each.failure)  # noqa: PERF401 (`ask_each` looks at it)
    assert all(isinstance(failure, IsbndbUnavailable) for failure in failures)
    assert len(failures) == 8
    assert balance(sandbox) == (8 + 2, 8 + 2)


def test_the_end_of_the_day_stops_what_is_not_sent_and_lets_in_what_is_under_way(sandbox: Sandbox) -> None:
    sandbox.faults = Gate(opens_for=3)
    sandbox.set_limits(daily_limit=3)
    with pytest.raises(QuotaRefused) as caught:
        list(ask_each(questions_for(5)))
    assert caught.value.limit == "day_closed"
    assert sorted(outcomes()) == ["ok"] * 3 + ["quota_exceeded"] * 2
    assert (get_status().reserved, get_status().can_make_calls) == (0, False)
    assert balance(sandbox) == (5, 5)


def test_answers_under_way_are_handed_on_before_the_quota_ends_it(sandbox: Sandbox, settings) -> None:
    settings.QUOTA_DAILY_LIMIT, settings.QUOTA_SAFETY_BUFFER = 4, 1
    sandbox.faults = Gate(opens_for=3)
    came: list[str | None] = []
    with pytest.raises(QuotaRefused):
        came.extend(map(found, ask_each(questions_for(9))))
    assert sorted(map(str, came)) == sorted(known_isbns(3))
    assert balance(sandbox) == (3, 3)


@pytest.mark.slow
def test_a_request_that_is_paid_and_waits_for_its_send_time_is_sent_when_the_next_one_is_refused(
    sandbox: Sandbox, settings
) -> None:
    settings.QUOTA_MAX_RPS = 2
    settings.QUOTA_DAILY_LIMIT, settings.QUOTA_SAFETY_BUFFER = 3, 1
    came: list[str | None] = []
    with pytest.raises(QuotaRefused):
        came.extend(map(found, ask_each(questions_for(3))))
    assert sorted(map(str, came)) == sorted(known_isbns(2))
    assert (outcomes(), balance(sandbox)) == (["ok", "ok"], (2, 2))


def test_a_refused_key_stops_everything_and_is_raised_at_the_end(sandbox: Sandbox, settings) -> None:
    sandbox.faults = Gate(opens_for=4)
    sandbox.add_fault("status", status=401, times=1)
    came: list[str | None] = []
    with pytest.raises(IsbndbKeyRefused):
        came.extend(map(found, ask_each(questions_for(4))))
    assert len(came) == 3
    assert sorted(outcomes()) == ["ok", "ok", "ok", "refused"]


def test_an_exception_of_the_caller_that_plans_is_raised_after_the_answers_under_way(sandbox: Sandbox) -> None:
    class LeaseLost(Exception):
        pass

    sandbox.faults = Gate(opens_for=2)
    asked = questions_for(2)
    came: list[str | None] = []

    def next_question() -> Question[Answer]:
        if (question := asked()) is None:
            raise LeaseLost
        return question

    with pytest.raises(LeaseLost):
        came.extend(map(found, ask_each(next_question)))
    assert sorted(map(str, came)) == sorted(known_isbns(2))


def test_a_loop_that_breaks_off_leaves_no_request_without_an_outcome(sandbox: Sandbox) -> None:
    sandbox.faults = Gate(opens_for=4)
    for _ in ask_each(questions_for(4)):
        break
    assert outcomes() == ["ok"] * 4
    assert get_status().reserved == 0
    assert balance(sandbox) == (4, 4)


@pytest.mark.slow
@pytest.mark.usefixtures("late_requests")
def test_too_fast_holds_back_what_is_not_sent_and_sends_it_after_the_pause_of_the_fleet(
    sandbox: Sandbox, settings
) -> None:
    settings.QUOTA_MAX_RPS = 3
    sandbox.add_fault("status", **TOO_FAST, headers={"Retry-After": "2"}, times=1)
    results = list(ask_each(questions_for(3)))
    assert sorted(str(found(each)) for each in results) == sorted(known_isbns(3))
    first, *others = sandbox.requests
    assert all(other["at"] - first["at"] >= 2 for other in others)
    assert sandbox.most_in_a_second <= 3
    assert sorted(outcomes()) == ["ok", "ok", "ok", "too_fast"], "what was held back was sent, once, for its one call"
    assert balance(sandbox) == (4, 4)


@pytest.mark.slow
def test_what_is_held_back_over_midnight_is_not_sent(sandbox: Sandbox, settings) -> None:
    settings.QUOTA_MAX_RPS = 3
    stop_database_clock(MIDNIGHT - timedelta(seconds=4))
    sandbox.add_fault("status", **TOO_FAST, headers={"Retry-After": "3"}, times=1)
    with pytest.raises(QuotaRefused) as caught:
        list(ask_each(questions_for(2)))
    assert caught.value.limit == "midnight"
    assert "ok" not in outcomes()
    assert len(sandbox.requests) == 1


@pytest.mark.usefixtures("late_requests")
def test_a_request_whose_send_time_has_passed_gets_another_one_for_the_same_call(sandbox: Sandbox, monkeypatch) -> None:
    lateness = iter([1.0])
    wait_for_turn = isbndb.wait_for_turn

    def late(gap: float) -> None:
        wait_for_turn(gap)
        time.sleep(next(lateness, 0.0))

    monkeypatch.setattr(isbndb, "wait_for_turn", late)
    with spending(consumer="reader", operation="test", calls=1) as spender:
        assert len(ask(batch_of(known_isbns(1), spender)).books) == 1
    [call] = Call.objects.all()
    assert (call.outcome, call.send_at - call.dispatched_at > timedelta(seconds=0.9)) == ("ok", True)
    assert balance(sandbox) == (1, 1)


@pytest.mark.usefixtures("late_requests")
def test_a_late_request_is_not_sent_after_the_day_was_closed(sandbox: Sandbox, monkeypatch) -> None:
    wait_for_turn = isbndb.wait_for_turn

    def late(gap: float) -> None:
        reservations.close_day(spender.dispatched[-1], reason="Another process said so.")
        connection.close()
        wait_for_turn(gap)
        time.sleep(2 * asking.MAX_LATE_SECONDS)

    monkeypatch.setattr(isbndb, "wait_for_turn", late)
    with pytest.raises(QuotaRefused) as caught, spending(consumer="reader", operation="test", calls=1) as spender:
        ask(batch_of(known_isbns(1), spender))
    assert caught.value.limit == "day_closed"
    assert (outcomes(), sandbox.requests) == (["not_sent"], [])
    assert get_status().used == 1, "its price stays spent"


def test_a_pause_that_is_too_long_to_wait_for_gives_up_what_is_held_back(sandbox: Sandbox, settings) -> None:
    settings.QUOTA_MAX_RPS = 3
    sandbox.add_fault("status", **TOO_FAST, headers={"Retry-After": "120"}, times=1)
    results: list[IsbndbError | None] = []
    with suppress(PaceTimeout):  # of a second question that was not dispatched before the pause
        results.extend(each.failure for each in ask_each(questions_for(2)))
    assert {type(failure) for failure in results} == {IsbndbUnavailable}
    assert sorted(outcomes()) in (["not_sent", "too_fast"], ["too_fast"])


def test_every_question_that_was_not_sent_gives_its_calls_back(sandbox: Sandbox, settings) -> None:
    settings.QUOTA_DAILY_LIMIT, settings.QUOTA_SAFETY_BUFFER = 3, 1
    made = []

    def own_payer() -> Payer:
        made.append(for_one_question(consumer="reader", operation="test"))
        return made[-1]

    with pytest.raises(QuotaRefused):
        list(ask_each(questions_for(5, own_payer)))
    assert len(made) == 3, "two were granted, the third was refused"
    assert (get_status().used, get_status().reserved) == (2, 0)
    assert not Reservation.objects.filter(state="open").exists()


def test_attempts_of_a_question_are_requests_with_a_call_each(sandbox: Sandbox) -> None:
    sandbox.add_fault("status", status=502)
    [exchanged] = ask_each(questions_for(1))
    assert exchanged.failure is not None
    assert outcomes() == ["server_error"] * questions.ATTEMPTS
    reservation = Reservation.objects.get()
    assert (reservation.calls, reservation.dispatched, reservation.state) == (3, 3, "settled")


def test_two_consumers_ask_at_once_and_each_pays_its_own(sandbox: Sandbox) -> None:
    Consumer.objects.create(slug="other")
    payers = iter([for_one_question(consumer=slug, operation="test") for slug in ("reader", "other", "reader")])
    assert len(list(ask_each(questions_for(3, lambda: next(payers))))) == 3
    assert list(Call.objects.order_by("id").values_list("consumer__slug", flat=True)) == ["reader", "other", "reader"]
    assert NOON.date() == get_status().day


def test_one_question_for_the_counter_settles_all_unclear_answers_that_came_before_it(sandbox: Sandbox) -> None:
    """Otherwise each of sixteen answers would wait ten seconds for its turn to ask, and pay for it."""
    sandbox.faults = Gate(opens_for=4)
    sandbox.set_limits(daily_limit=1_000)  # so little that only an answer asked for later settles one
    sandbox.add_fault("status", status=404, body={"message": "Not Found"}, path="/books", times=4)
    all_came, asked = threading.Event(), list[Payer]()
    ask_counter = asking._Asking._ask_counter

    def when_all_came(flow: asking._Asking[Answer], payer: Payer) -> Any:
        assert not asked, "one question settles all"
        asked.append(payer)
        while flow.came.qsize() < 3:
            assert not all_came.wait(0.01)
        return ask_counter(flow, payer)

    with patch.object(asking._Asking, "_ask_counter", when_all_came):
        results = list(ask_each(questions_for(4)))
    assert len([each for each in results if each.failure]) == 4
    assert [request["path"] for request in sandbox.requests].count("/key") == 1
    assert outcomes().count("not_found") == 4


def test_the_garbage_collector_leaves_out_what_was_loaded_before_the_first_question() -> None:
    asking._freeze_what_is_loaded.cache_clear()
    with patch.object(gc, "freeze", wraps=gc.freeze) as freeze:
        list(ask_each(questions_for(1)))
        list(ask_each(questions_for(1)))
    freeze.assert_called_once_with()
    assert gc.get_freeze_count() > 100_000, "all modules with what they hold"

"""Unclear answers, which ISBNdb's own counter settles: when it is asked, by whom, and what follows."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection

from alexandria.development.sandbox.server import Sandbox
from enrichment.exceptions import (
    EnrichmentStopped,
    IsbndbKeyRefused,
    IsbndbNotFound,
    IsbndbRefused,
    IsbndbUnclear,
)
from enrichment.gateway import outcomes, settling
from enrichment.gateway.asking import ask
from enrichment.gateway.listings import books_by_author, page_of
from enrichment.gateway.questions import batch_of
from enrichment.models import AuthorMiss
from enrichment.services.bibliographies import enrich_bibliography
from enrichment.services.reconciliation import reconcile
from quota.exceptions import QuotaRefused
from quota.models import Call, Consumer, DailyLedger, Reconciliation, Reservation
from quota.prices import RequestKind
from quota.selectors.plan import get_plan
from quota.selectors.status import get_status
from quota.services import reservations
from quota.spending import for_one_question, spending
from tests.fixtures import SetClock, balance, dispatched, known_isbns

LIMIT_EXCEEDED = {"status": 429, "body": {"message": "Limit Exceeded"}}
FORBIDDEN = {"status": 403, "body": {"message": "Forbidden"}}
NOT_FOUND = {"status": 404, "body": {"errorMessage": "Not Found"}}
UNCLEAR = [LIMIT_EXCEEDED, FORBIDDEN, NOT_FOUND]

pytestmark = pytest.mark.usefixtures("consumer", "sandbox")


def fetch_books() -> None:
    with spending(consumer="reader", operation="test", calls=1) as spender:
        ask(batch_of(known_isbns(3), spender))


def fetch_author() -> None:
    with spending(consumer="reader", operation="test", calls=1) as spender:
        ask(page_of(books_by_author("Somebody"), spender, page=1))


def journal() -> list[tuple[str, str, int | None]]:
    return list(Call.objects.order_by("id").values_list("path", "outcome", "status"))


def questions(sandbox: Sandbox) -> int:
    return sum(request["path"] == "/key" for request in sandbox.requests)


@pytest.mark.parametrize("answer", UNCLEAR, ids=["429", "403", "404"])
def test_when_the_counter_has_nothing_left_the_day_is_closed(sandbox: Sandbox, answer: dict[str, Any]) -> None:
    sandbox.add_fault("status", **answer, times=1)
    sandbox.set_limits(daily_limit=2)
    with pytest.raises(QuotaRefused) as caught:
        fetch_books()
    assert caught.value.limit == "day_closed"
    assert journal() == [("/books", "quota_exceeded", answer["status"]), ("/key", "ok", 200)]
    assert get_status().closed_reason == "ISBNdb's own counter says that nothing is left: 2 of 2 calls are spent."
    assert set(Call.objects.values_list("consumer__slug", "operation")) == {("reader", "test")}
    assert balance(sandbox) == (2, 2)
    with pytest.raises(QuotaRefused):
        fetch_books()
    assert len(sandbox.requests) == 2


@pytest.mark.parametrize(
    ("answer", "error", "message", "outcome"),
    [
        (FORBIDDEN, IsbndbRefused, "does not accept our key", "refused"),
        (NOT_FOUND, IsbndbNotFound, "does not know what it was asked for", "not_found"),
    ],
    ids=["403", "404"],
)
def test_when_calls_are_left_the_answer_is_what_it_says(
    sandbox: Sandbox, answer: dict[str, Any], error: type[Exception], message: str, outcome: str
) -> None:
    sandbox.add_fault("status", **answer, times=1)
    with pytest.raises(error, match=message):
        fetch_books()
    assert journal() == [("/books", outcome, answer["status"]), ("/key", "ok", 200)]
    assert get_status().can_make_calls
    assert balance(sandbox) == (2, 2)


def test_when_calls_are_left_a_429_is_the_pace_and_is_retried(sandbox: Sandbox) -> None:
    sandbox.add_fault("status", **LIMIT_EXCEEDED, times=1)
    fetch_books()
    assert journal() == [("/books", "too_fast", 429), ("/key", "ok", 200), ("/books", "ok", 200)]
    assert balance(sandbox) == (3, 3)


def test_a_payer_of_one_question_pays_for_the_counter_and_the_retry_too(sandbox: Sandbox) -> None:
    sandbox.add_fault("status", **LIMIT_EXCEEDED, times=1)
    ask(batch_of(known_isbns(3), for_one_question(consumer="reader", operation="test")))
    assert journal() == [("/books", "too_fast", 429), ("/key", "ok", 200), ("/books", "ok", 200)]
    assert Reservation.objects.get().state == "settled"
    assert balance(sandbox) == (3, 3)


def test_words_about_the_pace_need_no_question(sandbox: Sandbox) -> None:
    sandbox.add_fault("status", status=429, body={"message": "Per minute quota exceeded"}, times=1)
    fetch_books()
    assert questions(sandbox) == 0


def test_a_key_that_the_counter_refuses_too_is_a_bad_key(sandbox: Sandbox) -> None:
    sandbox.add_fault("status", **FORBIDDEN)
    with pytest.raises(IsbndbKeyRefused):
        fetch_books()
    assert journal() == [("/books", "refused", 403), ("/key", "refused", 403)]


@pytest.mark.parametrize("fault", [{"kind": "status", "status": 500}, {"kind": "garbage"}, {"kind": "drop"}], ids=str)
def test_a_counter_that_does_not_answer_is_asked_once_and_closes_no_day(
    sandbox: Sandbox, fault: dict[str, Any]
) -> None:
    sandbox.add_fault("status", **NOT_FOUND, path="/author/Somebody")
    sandbox.add_fault(**fault, path="/key")
    with pytest.raises(EnrichmentStopped) as stopped:
        enrich_bibliography("Somebody", consumer="reader")
    assert isinstance(stopped.value.reason, IsbndbUnclear)
    assert "did not say why" in str(stopped.value.reason)
    assert not AuthorMiss.objects.exists()
    first, _ = journal()
    assert first[1:] == ("unclear", 404)
    assert get_status().can_make_calls


def test_without_a_call_for_the_question_the_operation_ends_as_refused(sandbox: Sandbox, settings) -> None:
    settings.QUOTA_DAILY_LIMIT, settings.QUOTA_SAFETY_BUFFER = 2, 1
    sandbox.add_fault("status", **NOT_FOUND)
    with pytest.raises(QuotaRefused) as caught:
        fetch_author()
    assert caught.value.limit == "safety_limit"
    assert [row[1:] for row in journal()] == [("unclear", 404)]


def test_a_cap_that_leaves_no_call_for_the_question_is_not_the_reason_that_a_client_reads(
    sandbox: Sandbox, consumer: Consumer
) -> None:
    Consumer.objects.update(cap_per_operation=1)
    sandbox.add_fault("status", **NOT_FOUND)
    with pytest.raises(IsbndbUnclear, match="cap"):
        fetch_author()


def test_yesterdays_count_settles_nothing(sandbox: Sandbox, set_clock: SetClock, monkeypatch) -> None:
    monkeypatch.setattr("quota.services.corrections._why_ignored", lambda *_: "It may be yesterday's count.")
    sandbox.add_fault("status", **LIMIT_EXCEEDED, times=1)
    sandbox.set_limits(daily_limit=2)
    with pytest.raises(IsbndbUnclear, match="yesterday"):
        fetch_books()
    assert get_status().can_make_calls


@pytest.mark.parametrize(
    ("left", "minutes_ago", "asked"),
    [(12_000, 5, 0), (settling.LITTLE_LEFT - 10, 5, 1), (12_000, 16, 1)],
    ids=["plenty", "little", "long ago"],
)
def test_a_404_to_a_listing_is_settled_only_while_little_is_left(
    sandbox: Sandbox, settings, left: int, minutes_ago: int, asked: int
) -> None:
    settings.QUOTA_SAFETY_BUFFER = 10
    sandbox.set_limits(spent=15_000 - left, daily_limit=15_000)
    reconcile(consumer="reader")
    Reconciliation.objects.update(answered_at=get_status().now - timedelta(minutes=minutes_ago))
    sandbox.add_fault("status", **NOT_FOUND, path="/author/Somebody")
    with pytest.raises(IsbndbNotFound):
        fetch_author()
    assert questions(sandbox) == 1 + asked


def test_calls_of_ours_since_the_answer_count_as_spent(sandbox: Sandbox, settings) -> None:
    """ISBNdb's counter lags: it says that calls are left. By our own count there are none, and that is the end."""
    settings.QUOTA_SAFETY_BUFFER = 10
    sandbox.set_limits(daily_limit=4)
    sandbox.set_plan(counter_lag=3600.0, limit_answer="404-not-found", batch_price="request")
    for _ in range(3):
        fetch_books()
    with pytest.raises(QuotaRefused) as caught:
        for _ in range(2):
            fetch_books()
    assert caught.value.limit == "day_closed"
    assert "we count all 4 that it sells" in (get_status().closed_reason or "")
    assert len(sandbox.requests) <= 4 + 2


def test_a_fleet_asks_once_what_many_unclear_answers_mean(sandbox: Sandbox, monkeypatch) -> None:
    sandbox.add_fault("status", **NOT_FOUND, path="/books")
    sandbox.set_limits(daily_limit=9)
    all_are_answered = threading.Barrier(8, timeout=60)

    def is_day_over(*args, **options) -> bool:
        all_are_answered.wait()  # otherwise calls may be left when the first one asks
        return settling.is_day_over(*args, **options)

    monkeypatch.setattr(outcomes, "is_day_over", is_day_over)

    def meet(_: int) -> str:
        try:
            fetch_books()
        except QuotaRefused as refusal:
            return refusal.limit
        finally:
            connection.close()
        return ""

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(meet, range(8))) == {"day_closed"}
    assert questions(sandbox) == 1


def test_a_second_question_within_ten_seconds_waits_for_its_turn(sandbox: Sandbox, monkeypatch) -> None:
    """The first answer is older than the second 404, and little is left: it does not settle it."""
    monkeypatch.setattr(settling, "QUESTION_EVERY", timedelta(seconds=1.5))
    sandbox.set_limits(daily_limit=100)
    sandbox.add_fault("status", **NOT_FOUND, path="/author/Somebody")
    asked_at = []
    for _ in range(2):
        with pytest.raises(IsbndbNotFound):
            fetch_author()
        asked_at.append(Reconciliation.objects.latest("id").answered_at)
    assert questions(sandbox) == 2
    assert asked_at[1] - asked_at[0] >= timedelta(seconds=1.5)


def test_what_is_left_is_isbndbs_last_word_without_what_we_have_sent_since(sandbox: Sandbox) -> None:
    with spending(consumer="reader", operation="test", calls=3) as spender:
        question = dispatched(spender, RequestKind.KEY, "GET", "/key")
        figures = {"spent": 1, "total": 15_000, "left": 50, "used": 1, "in_flight": 0}
        answer = {"call_id": question.id, "answered_at": get_status().now}
        Reconciliation.objects.create(ledger=DailyLedger.objects.get(), **answer, **figures)
        for _ in range(2):
            dispatched(spender, RequestKind.PAGE, "GET", "/author/x")
    assert get_plan(question.day).left == 48


def test_when_we_count_all_that_isbndb_sells_its_counter_is_not_asked(sandbox: Sandbox) -> None:
    with spending(consumer="reader", operation="test", calls=1) as spender:
        call = dispatched(spender, RequestKind.BATCH, "POST", "/books", isbns_asked=3)
    figures = {"spent": 0, "total": 1, "left": 1, "used": 0, "in_flight": 0}
    Reconciliation.objects.create(ledger=DailyLedger.objects.get(), answered_at=get_status().now, **figures)
    assert settling.is_day_over(call, ask_counter=lambda: pytest.fail("it was asked"))
    assert "we count all 1 that it sells" in (get_status().closed_reason or "")


def test_an_answer_that_was_asked_for_before_the_unclear_one_came_does_not_settle_it(
    sandbox: Sandbox, monkeypatch
) -> None:
    monkeypatch.setattr(settling, "QUESTION_EVERY", timedelta())
    sandbox.set_limits(daily_limit=100)
    with spending(consumer="reader", operation="test", calls=1) as spender:
        call = dispatched(spender, RequestKind.BATCH, "POST", "/books", isbns_asked=3)
    reconcile(consumer="reader")
    assert not settling.is_day_over(call, ask_counter=lambda: reconcile(consumer="reader").counters)
    assert questions(sandbox) == 2


def test_who_waits_too_long_for_the_question_of_another_ends_without_a_verdict(sandbox: Sandbox, monkeypatch) -> None:
    monkeypatch.setattr(settling, "MAX_WAIT_SECONDS", 0.5)
    sandbox.add_fault("status", **NOT_FOUND, path="/books")
    reservations.open_ledger()
    DailyLedger.objects.update(settling_at=get_status().now)  # another process has the right, and has died
    with pytest.raises(IsbndbUnclear, match="Another process"):
        fetch_books()
    assert questions(sandbox) == 0
    assert get_status().can_make_calls


def test_while_another_settles_it_a_closed_day_ends_the_wait(sandbox: Sandbox) -> None:
    sandbox.add_fault("status", **NOT_FOUND, path="/books")
    reservations.open_ledger()
    DailyLedger.objects.update(settling_at=get_status().now)

    def close() -> None:
        DailyLedger.objects.update(closed_at=get_status().now, closed_reason="a test")
        connection.close()

    timer = threading.Timer(0.7, close)
    timer.start()
    with pytest.raises(QuotaRefused) as caught:
        fetch_books()
    timer.join()
    assert (caught.value.limit, questions(sandbox)) == ("day_closed", 0)

"""The queue: one row for each ISBN, when a batch is sent, and what happens to the ISBNs of a failed batch."""

import json
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from math import ceil
from random import Random
from unittest.mock import patch

import pytest
from django.db import IntegrityError, OperationalError, connection, transaction
from django.db.models import F
from django.test.utils import CaptureQueriesContext

from alexandria.common import heartbeats
from alexandria.common.heartbeats import LEASE
from alexandria.development.sandbox.server import Sandbox
from enrichment.books import aside
from enrichment.exceptions import EnrichmentStopped, IsbndbKeyRefused
from enrichment.isbn.parsing import Reason
from enrichment.models import Asker, Edition, Miss, QueuedIsbn, QueueState
from enrichment.models.queue import MAX_ATTEMPTS
from enrichment.selectors.queue import FAILED, Payers, get_payers, get_queue, glance_at_queue, wanted_next
from enrichment.services import enrich as enrichment
from enrichment.services import queue_flush
from enrichment.services.queue import Accepted, drop, enqueue, retry
from enrichment.services.queue_batches import Batch, claim_batch, make_batch, renew
from enrichment.services.queue_flush import Flush, flush
from quota.exceptions import ConsumerUnknown, QuotaUnavailable
from quota.models import Call, Consumer, Switches
from quota.services import reservations as quota
from quota.shared_spending import SharedPayer
from tests import processes
from tests.bench.queue_trace import distinct, make_trace, min_calls, naive_calls, run_trace
from tests.fixtures import NOON, At, balance, known_isbns, patient_database, unknown_isbns

HIGH, NORMAL, LOW = QueuedIsbn.Priority.HIGH, QueuedIsbn.Priority.NORMAL, QueuedIsbn.Priority.LOW
SIZE = 10


@pytest.fixture(autouse=True)
def batches_of_ten(settings, consumer: Consumer, sandbox: Sandbox, no_waits: None) -> None:
    settings.ISBNDB_BATCH_SIZE = SIZE


def queue(isbns: list[str], priority: QueuedIsbn.Priority = NORMAL) -> Accepted:
    return enqueue(isbns, priority=priority, consumer="reader")


def sent() -> list[int]:
    """The number of ISBNs in each call."""
    return [call.isbns_asked or 0 for call in Call.objects.order_by("pk")]


def warning() -> str:
    return get_queue().warning or ""


def failing_flush() -> Flush:
    """Runs a flush that ISBNdb stops with a failure; returns its result so far."""
    with pytest.raises(EnrichmentStopped) as failure:
        flush()
    result: Flush = failure.value.result
    return result


def in_threads(*works: Callable[[], object]) -> None:
    """Runs the functions at once, each with its own connection, and fails if any of them raises."""
    errors: list[BaseException] = []
    start = threading.Barrier(len(works), timeout=300)

    def run(work: Callable[[], object]) -> None:
        try:
            start.wait()
            work()
        except Exception as error:  # noqa: BLE001 (raised below)
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


# Queuing


def counts_of(accepted: Accepted) -> tuple[object, ...]:
    invalid = [(entry.input, entry.reason) for entry in accepted.invalid]
    read = (accepted.requested, accepted.valid, accepted.duplicates, invalid)
    return (*read, accepted.queued, accepted.already_queued, accepted.already_fresh, accepted.not_found)


def test_a_known_isbn_is_not_queued_and_a_waiting_isbn_is_not_queued_twice(sandbox: Sandbox) -> None:
    fresh, waiting, missed = known_isbns(5)[:2], known_isbns(5)[2:], unknown_isbns(1)
    enrichment.enrich_isbns([*fresh, *missed], consumer="reader")
    assert queue(waiting[:2]).queued == 2
    accepted = enqueue(
        [*fresh, *missed, *waiting, waiting[0], "wrong"], priority=NORMAL, consumer="reader", source="shelf 7"
    )
    assert counts_of(accepted) == (8, 6, 1, [("wrong", Reason.NOT_AN_ISBN)], 1, 2, 2, 1)
    assert [item.state for item in accepted.items] == [
        *("already_fresh", "already_fresh", "not_found", "already_queued", "already_queued", "queued"),
        *("duplicate", "invalid"),
    ]
    assert sorted(Asker.objects.values_list("source", flat=True)) == ["", "", "shelf 7"]
    assert queue(fresh).already_fresh == 2
    assert counts_of(queue([])) == (0, 0, 0, [], 0, 0, 0, 0)
    assert balance(sandbox) == (1, 1)
    with pytest.raises(ConsumerUnknown):
        enqueue(waiting, priority=NORMAL, consumer="nobody")


@pytest.mark.slow
def test_50_callers_at_once_create_one_row_for_each_isbn() -> None:
    catalogue = known_isbns(200)
    accepted: list[Accepted] = []

    def caller(number: int) -> Callable[[], None]:
        random = Random(number)
        wanted = [random.sample(catalogue, 40) for _ in range(5)]
        return lambda: accepted.extend(queue(isbns, random.choice([HIGH, NORMAL, LOW])) for isbns in wanted)

    with patient_database():
        in_threads(*(caller(number) for number in range(50)))
    assert len(accepted) == 250
    assert sum(each.queued for each in accepted) == QueuedIsbn.objects.count() <= 200
    assert all(each.queued + each.already_queued == 40 for each in accepted)


def test_each_asker_of_an_isbn_keeps_its_own_priority_and_due_time(at: At) -> None:
    Consumer.objects.create(slug="writer")
    isbn = known_isbns(1)
    queue(isbn, LOW)
    at(5)
    writers = enqueue(isbn, priority=HIGH, consumer="writer", source="urgent")
    assert (writers.queued, writers.already_queued) == (0, 1)
    at(10)
    queue(isbn, NORMAL)
    assert QueuedIsbn.objects.get().asked_at == NOON
    askers = Asker.objects.values_list("consumer__slug", "priority", "source", "due_at")
    assert list(askers) == [
        ("reader", NORMAL, "", NOON + timedelta(seconds=70)),
        ("writer", HIGH, "urgent", NOON + timedelta(seconds=15)),
    ]
    at(65)
    queue(isbn, HIGH)
    queue(isbn, LOW)
    reader = Asker.objects.get(consumer__slug="reader")
    assert (reader.priority, reader.due_at) == (HIGH, NOON + timedelta(seconds=70))
    overview = get_queue()
    assert (overview.depth, overview.by_priority["high"]) == (1, 1)


def test_the_database_rejects_invalid_rows_of_the_queue() -> None:
    queue(known_isbns(1))
    QueueState.objects.create(looked_at=NOON)
    for table, wrong in (
        (QueuedIsbn, {"isbn13": "9780000000"}),
        (Asker, {"priority": 3}),
        (QueuedIsbn, {"claim": uuid.uuid4()}),
        (QueueState, {"id": 2}),
    ):
        with pytest.raises(IntegrityError), transaction.atomic():
            table._default_manager.update(**wrong)


# When a batch is sent


def test_full_batches_are_sent_at_once_and_the_rest_waits(sandbox: Sandbox) -> None:
    assert flush().batches == 0
    queue([*known_isbns(23), *unknown_isbns(2)])
    done = flush()
    assert (done.batches, done.isbns, done.enrichment.api_calls, done.stopped_reason) == (2, 20, 2, None)
    assert sent() == [SIZE, SIZE]
    assert QueuedIsbn.objects.count() == 5
    assert Edition.objects.count() + Miss.objects.count() == 20
    assert flush().batches == 0
    assert set(Call.objects.values_list("operation", "consumer__slug")) == {("queue", "reader")}
    assert balance(sandbox) == (2, 2)


@pytest.mark.parametrize(
    ("priority", "seconds"), [(HIGH, 10), (NORMAL, 60), (LOW, 3600)], ids=["high", "normal", "low"]
)
def test_a_batch_that_is_not_full_is_sent_when_its_oldest_isbn_is_due(
    priority: QueuedIsbn.Priority, seconds: int, at: At
) -> None:
    queue(known_isbns(1), priority)
    at(seconds - 0.1)
    queue(known_isbns(3), priority)
    assert flush().batches == 0
    at(seconds)
    assert flush().batches == 1
    assert sent() == [3]
    assert not QueuedIsbn.objects.exists()


def test_due_isbns_are_sent_first_and_then_the_highest_priorities(at: At) -> None:
    books = known_isbns(15)
    overdue, low, normal, high = books[:1], books[1:3], books[3:11], books[11:]
    queue(overdue, LOW)
    at(3600)
    for isbns, priority in ((low, LOW), (normal, NORMAL), (high, HIGH)):
        queue(isbns, priority)
    assert flush().batches == 1
    stored = set(Edition.objects.values_list("isbn13", flat=True))
    assert stored > {*overdue, *high}
    assert len(stored & set(normal)) == 5
    assert flush().batches == 0


@pytest.mark.parametrize("size", range(1, 8))
def test_what_is_due_comes_before_what_is_not_then_the_priority_counts_and_then_the_age(at: At, size: int) -> None:
    """Due at 3650 s: a low and two normal ones, one of them at this very moment. Another one is held until then."""
    isbns = known_isbns(7)
    low, normal, newer, held, early_high, early_normal, early_low = isbns[3], isbns[2], isbns[1], *isbns[4:], isbns[0]
    for seconds, isbn, priority in (
        (0, low, LOW),
        (3570, held, NORMAL),
        (3580, normal, NORMAL),
        (3590, newer, NORMAL),
        (3641, early_normal, NORMAL),
        (3645, early_low, LOW),
        (3649, early_high, HIGH),
    ):
        at(seconds)
        queue([isbn], priority)
    at(3650)
    QueuedIsbn.objects.filter(pk=held).update(held_until=NOON + timedelta(seconds=3650), attempts=1)
    [wanted] = wanted_next(get_payers().able, size=size).isbns_of.values()
    assert wanted == [held, normal, newer, low, early_high, early_normal, early_low][:size]


@pytest.mark.slow
def test_a_queued_isbn_that_became_known_in_the_meantime_costs_no_call(at: At, sandbox: Sandbox) -> None:
    queue(known_isbns(9) + unknown_isbns(1))
    enrichment.enrich_isbns(known_isbns(8) + unknown_isbns(1), consumer="reader")
    at(60)
    flush()
    assert sent() == [9, 1]
    queue(known_isbns(12)[9:])
    enrichment.enrich_isbns(known_isbns(12), consumer="reader")
    at(120)
    assert flush().batches == 0
    assert not QueuedIsbn.objects.exists()
    assert balance(sandbox) == (3, 3)


@pytest.mark.slow
def test_one_flush_sends_a_limited_number_of_batches_and_the_next_one_continues() -> None:
    queue(known_isbns(50))
    with patch.object(queue_flush, "MAX_BATCHES", 3):
        assert flush().batches == 3
        assert flush().batches == 2


@pytest.mark.slow
def test_many_small_requests_cost_hardly_more_than_the_minimum_of_calls(sandbox: Sandbox, settings) -> None:
    settings.ISBNDB_BATCH_SIZE = 25
    trace = make_trace(1_000, seconds=100, catalogue=2_000)
    outcome = run_trace(trace, consumer="reader")
    assert outcome.asked == distinct(trace)
    assert outcome.calls <= ceil(1.1 * min_calls(trace, 25))
    assert naive_calls(trace) > 8 * outcome.calls
    assert balance(sandbox) == (outcome.calls, outcome.calls)


# Several flushers


@contextmanager
def claim_taken_out(flushers: int) -> Iterator[None]:
    """Every flusher picks its first batch as usual but does not claim it. None sends before all have picked."""
    picked = threading.Barrier(flushers, timeout=300)
    first = threading.local()

    def pick(payers: Payers, *, source: str) -> Batch | None:
        if hasattr(first, "done"):
            return None
        first.done = True
        [isbns] = wanted_next(payers.able, size=SIZE).isbns_of.values()
        picked.wait()
        return make_batch(uuid.uuid4(), {"reader": isbns}, source=source)

    with patch.object(queue_flush, "claim_batch", pick):
        yield


def flush_at_once(flushers: int) -> None:
    in_threads(*[flush] * flushers)


def test_without_the_claim_two_flushers_send_the_same_isbns() -> None:
    queue(known_isbns(20))
    with claim_taken_out(2):
        flush_at_once(2)
    assert sent() == [SIZE, SIZE]
    assert Edition.objects.count() == SIZE


@pytest.mark.slow
def test_many_flushers_send_every_isbn_once_with_as_few_calls_as_one_flusher(at: At, sandbox: Sandbox) -> None:
    queue(known_isbns(75))
    at(60)
    sandbox.add_fault("latency", seconds=0.05)
    flush_at_once(8)
    assert sorted(sent()) == [5, *[SIZE] * 7]
    assert Edition.objects.count() == 75
    assert not QueuedIsbn.objects.exists()
    assert balance(sandbox) == (8, 8)


@pytest.mark.slow
def test_queuing_and_flushing_at_once_loses_no_isbn_and_does_not_deadlock(at: At, sandbox: Sandbox) -> None:
    books = known_isbns(300)

    random = Random(1)
    wanted = [[random.sample(books, 30) for _ in range(10)] for _ in range(8)]

    def caller(parts: list[list[str]]) -> Callable[[], object]:
        return lambda: [queue(part, random.choice([HIGH, NORMAL])) for part in parts]

    in_threads(*map(caller, wanted), *[lambda: [flush() for _ in range(10)]] * 3)
    at(60)
    while flush().batches:
        pass
    assert not QueuedIsbn.objects.exists()
    everything = {isbn for parts in wanted for part in parts for isbn in part}
    assert set(Edition.objects.values_list("isbn13", flat=True)) == everything
    spent, used = balance(sandbox)
    assert spent == used == len(sent())


@pytest.mark.slow
def test_the_claim_of_a_killed_flusher_expires(at: At, sandbox: Sandbox) -> None:
    queue(known_isbns(SIZE))
    arguments = [sys.executable, "-m", "tests.enrichment.doomed", "between answer and record"]
    with subprocess.Popen(arguments, env=processes.environment(), stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout.readline() == "waiting\n"
        assert get_queue().under_way == SIZE
        worker.kill()
    at(LEASE.total_seconds() - 0.1)
    assert flush().batches == 0
    at(LEASE.total_seconds())
    assert flush().batches == 1
    assert not QueuedIsbn.objects.exists()
    assert Edition.objects.count() == SIZE
    quota.expire()
    assert balance(sandbox) == (2, 2)


def test_a_flusher_whose_claim_is_over_leaves_the_isbns_to_the_next_one(at: At) -> None:
    queue(known_isbns(SIZE))
    first = claim_batch(get_payers(), source="")
    at(LEASE.total_seconds())
    second = claim_batch(get_payers(), source="")
    assert first is not None
    assert second is not None
    assert sorted(first.isbns) == sorted(second.isbns)
    at(1.5 * LEASE.total_seconds())
    renew([first])
    queue_flush._release(first, first.isbns)
    queue_flush._put_off(first, dict.fromkeys(first.isbns, "too late"))
    rows = QueuedIsbn.objects.values_list("claim", "held_until", "attempts", "last_error")
    assert set(rows) == {(second.claim, NOON + 2 * LEASE, 2, "")}


def test_a_batch_that_was_not_sent_when_the_flush_ended_loses_no_attempt() -> None:
    queue(known_isbns(SIZE))
    flushing = queue_flush._Flushing(source="")
    assert flushing.next_question() is not None
    flushing.stop(IsbndbKeyRefused("ISBNdb does not accept our key."))
    flushing.give_back()
    assert set(QueuedIsbn.objects.values_list("claim", "attempts", "held_until")) == {(None, 0, None)}


def test_the_claim_of_a_batch_is_renewed_while_its_request_is_under_way(at: At, sandbox: Sandbox, monkeypatch) -> None:
    monkeypatch.setattr(heartbeats, "HEARTBEAT", timedelta(milliseconds=10))
    queue(known_isbns(SIZE))
    meet, kept = sandbox.faults.meet, list[bool]()

    def take_long(path: str) -> object:
        at(0.5 * LEASE.total_seconds())
        held = QueuedIsbn.objects.filter(held_until=NOON + 1.5 * LEASE)
        kept.append(any(held.count() == SIZE for _ in range(3000)))
        connection.close()  # of the sandbox's thread
        return meet(path)

    with patch.object(sandbox.faults, "meet", take_long):
        assert flush().batches == 1
    assert (kept, sent()) == ([True], [SIZE])


# When a batch fails


@contextmanager
def unstorable(isbn: str) -> Iterator[None]:
    """Makes the database reject that edition."""
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE enrichment_edition ADD CONSTRAINT tmp CHECK (isbn13 <> '{isbn}')")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE enrichment_edition DROP CONSTRAINT tmp")


def test_without_quota_queued_isbns_lose_no_attempt_and_are_sent_the_next_day(
    at: At, sandbox: Sandbox, settings
) -> None:
    settings.QUOTA_DAILY_LIMIT, settings.QUOTA_SAFETY_BUFFER = 11, 10
    queue(known_isbns(25))
    done = flush()
    assert (done.batches, done.stopped_reason, done.enrichment.api_calls) == (1, "safety_limit", 1)
    assert set(QueuedIsbn.objects.values_list("attempts", "claim", "held_until", "last_error")) == {(0, None, None, "")}
    assert flush().stopped_reason == "safety_limit"
    overview = get_queue()
    assert (overview.depth, overview.stopped_reason) == (15, "safety_limit")
    assert f"waits until {overview.quota.reset_at:%Y-%m-%d} 00:00 UTC" in warning()
    assert balance(sandbox) == (1, 1)

    at(24 * 3600)
    done = flush()
    assert (done.batches, done.stopped_reason) == (1, "safety_limit")
    assert QueuedIsbn.objects.count() == 5


def test_by_the_isbn_a_batch_is_cut_to_the_free_calls_and_a_flush_ends_when_none_is_free(
    at: At, sandbox: Sandbox, settings
) -> None:
    settings.ISBNDB_BATCH_PRICE = "isbn"
    sandbox.set_plan(batch_price="isbn")
    Consumer.objects.filter(slug="reader").update(cap_per_operation=7, daily_budget=12)
    queue(known_isbns(25))
    at(60)
    done = flush()
    assert (done.batches, done.stopped_reason, done.enrichment.api_calls) == (2, "daily_budget", 12)
    assert sent() == [7, 5]
    assert QueuedIsbn.objects.filter(attempts=0, claim=None).count() == 13
    assert balance(sandbox) == (12, 12)


def test_no_queued_isbn_is_lost_while_a_consumer_is_off_or_the_database_is_down(sandbox: Sandbox) -> None:
    queue(known_isbns(SIZE))
    Consumer.objects.filter(slug="reader").update(active=False)
    assert flush().stopped_reason == "inactive"
    assert "nobody who asks" in warning()
    Consumer.objects.filter(slug="reader").update(active=True)
    with patch.object(SharedPayer, "hold", side_effect=QuotaUnavailable("No answer.")):
        assert failing_flush().stopped_reason == "quota_unavailable"
    assert set(QueuedIsbn.objects.values_list("attempts", "claim")) == {(0, None)}
    assert sandbox.spent == 0
    assert flush().batches == 1
    assert get_queue().warning is None


def test_while_harvesting_is_off_only_api_clients_have_their_isbns_sent(at: At, sandbox: Sandbox) -> None:
    Consumer.objects.create(slug="bulk", kind="bulk")
    enqueue(known_isbns(3)[2:], priority=HIGH, consumer="bulk")
    queue(known_isbns(2), HIGH)
    Switches.objects.create(harvest_enabled=False)
    at(10)
    assert flush().stopped_reason == "harvest_off"
    assert [queued.pk for queued in QueuedIsbn.objects.all()] == known_isbns(3)[2:]
    assert get_queue().of("bulk").refused_by == "harvest_off"


def test_who_queues_is_told_the_same_as_who_looks_without_reading_the_whole_queue(at: At, consumer: Consumer) -> None:
    other = Consumer.objects.create(slug="other")

    def told() -> tuple[int, int]:
        overview = get_queue()
        with CaptureQueriesContext(connection) as asked:
            glances = {each.slug: glance_at_queue(each) for each in (consumer, other)}
        assert len(asked) <= 2 * 9
        assert not any("GROUP BY" in query["sql"] for query in asked.captured_queries)
        for slug, glance in glances.items():
            assert glance.yours == overview.of(slug)
            for name in ("depth", "next_flush_at", "warning"):
                assert getattr(glance, name) == getattr(overview, name), name
        return glances["reader"].depth, glances["reader"].yours.isbns

    books = known_isbns(SIZE + 5)
    assert told() == (0, 0)
    queue(books[:4])
    enqueue(books[2:6], priority=HIGH, consumer="other")
    assert told() == (6, 4)
    QueuedIsbn.objects.filter(pk__in=books[:3]).update(attempts=MAX_ATTEMPTS)
    assert told() == (3, 1)
    QueuedIsbn.objects.filter(pk=books[0]).update(claim=uuid.uuid4(), held_until=NOON + timedelta(minutes=1))
    assert told() == (4, 2), "the last attempt is under way"
    queue(books, HIGH)
    assert told()[0] == SIZE + 5, "a full batch"
    QueueState.objects.update_or_create(id=1, defaults={"looked_at": NOON, "paused_until": NOON + timedelta(minutes=1)})
    assert told()[0] == SIZE + 5
    Consumer.objects.filter(slug="other").update(daily_budget=0)
    told()

    with connection.cursor() as cursor:
        cursor.execute("SET enable_seqscan = off")
        plan = QueuedIsbn.objects.filter(FAILED).order_by().explain()
        cursor.execute("RESET enable_seqscan")
    assert "enrichment_queued_failed" in plan


@pytest.mark.slow
def test_while_isbndb_fails_the_pauses_grow_and_after_all_attempts_an_isbn_waits_for_a_person(
    at: At, sandbox: Sandbox
) -> None:
    sandbox.add_fault("status", status=500)
    queue(known_isbns(SIZE))
    seconds, pauses = 0.0, []
    for _ in range(MAX_ATTEMPTS):
        assert failing_flush().batches == 0
        overview = get_queue()
        assert (overview.stopped_reason, overview.under_way) == ("isbndb_failed", 0)
        assert "isbndb_failed" in warning()
        assert flush().batches == 0
        paused_until = QueueState.objects.get().paused_until
        assert paused_until is not None
        pauses.append((paused_until - NOON).total_seconds() - seconds)
        seconds += pauses[-1]
        at(seconds)
    assert pauses == [30, 60, 120, 240, 480, 900, 900, 900]
    assert sent() == [SIZE] * 3 * MAX_ATTEMPTS  # the gateway's own retries
    overview = get_queue()
    assert (overview.depth, overview.failed, overview.next_flush_at) == (0, SIZE, None)
    assert {failed.error for failed in overview.latest_failed} == {"ISBNdb failed with status 500."}

    sandbox.clear_faults()
    assert flush().batches == 0
    assert (queue(known_isbns(1)).queued, queue(known_isbns(1)).already_queued) == (1, 1)
    assert retry(known_isbns(4)) == 3
    assert drop(known_isbns(SIZE + 1)[5:]) == SIZE - 5
    assert flush().batches == 1
    assert Edition.objects.count() == 4
    assert (QueuedIsbn.objects.count(), QueueState.objects.get().failures) == (1, 0)
    assert get_queue().warning is None
    assert retry(known_isbns(SIZE)) == 1
    assert balance(sandbox) == (len(sent()), len(sent()))


@pytest.mark.slow
def test_an_isbn_that_fails_within_an_answer_is_held_and_then_joins_other_batches(at: At, sandbox: Sandbox) -> None:
    queue(known_isbns(SIZE))
    with unstorable(known_isbns(1)[0]):
        assert flush().enrichment.failed == 1
    assert Edition.objects.count() == SIZE - 1
    row = QueuedIsbn.objects.get()
    assert (row.pk, row.attempts) == (known_isbns(1)[0], 1)
    assert "tmp" in row.last_error
    at(29.9)
    assert (flush().batches, get_queue().claimable) == (0, 0)
    queue(known_isbns(SIZE + 4)[SIZE:], HIGH)
    at(40)
    flush()
    at(70)
    assert (get_queue().depth, get_queue().next_flush_why) == (0, None)
    assert sent() == [SIZE, 5]


def test_an_answer_ends_the_pause_that_another_flusher_has_begun(sandbox: Sandbox) -> None:
    queue(known_isbns(SIZE))
    meet = sandbox.faults.meet

    def pause_first(path: str) -> object:
        QueueState.objects.update(failures=3, paused_until=NOON + timedelta(hours=1))
        connection.close()  # of the sandbox's thread
        return meet(path)

    with patch.object(sandbox.faults, "meet", pause_first):
        assert flush().batches == 1
    state = QueueState.objects.get()
    assert (state.failures, state.paused_until) == (0, None)


def test_an_unreadable_book_leaves_the_queue_as_a_miss_that_expires_soon(at: At, sandbox: Sandbox) -> None:
    books = known_isbns(2)
    body = {"data": [{"isbn13": books[0], "title": "Good"}, {"title": "No number"}]}
    sandbox.add_fault("garbage", body=json.dumps(body), times=1)
    queue(books, HIGH)
    at(10)
    assert flush().batches == 1
    assert not QueuedIsbn.objects.exists()
    assert queue(books, HIGH).not_found == 1
    Miss.objects.update(asked_at=F("asked_at") - timedelta(days=1))
    assert queue(books, HIGH).queued == 1


def test_when_a_batch_cannot_be_stored_its_isbns_are_held_and_tried_again(at: At, sandbox: Sandbox) -> None:
    queue(known_isbns(SIZE))
    refused = patch.object(enrichment, "store_books", side_effect=OperationalError("lock timeout"))
    with refused, patch.object(aside, "PATIENCE", timedelta()):
        assert failing_flush().stopped_reason == "database_unavailable"
    why = "The database is out of reach."
    assert set(QueuedIsbn.objects.values_list("attempts", "claim", "last_error")) == {(1, None, why)}
    at(30)
    assert flush().batches == 1
    assert balance(sandbox) == (2, 2)

"""The queue pays fairly: each consumer pays for its own ISBNs, in turn, and who cannot pay waits."""

import json
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from unittest.mock import patch

import pytest
from django.db import connection
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from alexandria.development.sandbox.server import Sandbox
from enrichment.exceptions import EnrichmentStopped, QueueFull
from enrichment.models import Asker, Edition, QueuedIsbn
from enrichment.models.queue import MAX_ATTEMPTS
from enrichment.selectors import queue as selectors
from enrichment.selectors.queue import get_queue, wanted_next
from enrichment.services.queue import delete, enqueue
from enrichment.services.queue_batches import by_share, fill
from enrichment.services.queue_flush import flush
from quota.models import Call, Consumer, ConsumerUsage, PriceMeasurement, Refusal
from quota.spending import Spender
from tests.fixtures import NOON, At, balance, known_isbns, patient_database

HIGH, NORMAL = QueuedIsbn.Priority.HIGH, QueuedIsbn.Priority.NORMAL
SIZE = 10
BOOKS = known_isbns(150)


@pytest.fixture
def people(at: At, sandbox: Sandbox, no_waits: None, settings) -> None:
    settings.ISBNDB_BATCH_SIZE = SIZE
    for slug in ("ann", "bob", "cid"):
        Consumer.objects.create(slug=slug)


@pytest.fixture
def by_the_isbn(people: None, sandbox: Sandbox, settings) -> None:
    settings.ISBNDB_BATCH_PRICE = "isbn"
    sandbox.set_plan(batch_price="isbn")


def ask(slug: str, first: int, count: int, priority: QueuedIsbn.Priority = HIGH) -> None:
    enqueue(BOOKS[first : first + count], priority=priority, consumer=slug)


def paid() -> dict[str, int]:
    return dict(ConsumerUsage.objects.filter(used__gt=0).values_list("consumer__slug", "used"))


def sent() -> list[int]:
    return [call.isbns_asked or 0 for call in Call.objects.filter(share_of=None).order_by("pk")]


# How a batch is filled

on_any_machine = hypothesis_settings(suppress_health_check=[HealthCheck.too_slow])
PEOPLE, PLACES = st.sampled_from(["ann", "bob", "cid"]), st.integers(0, 14)
WANTED = st.dictionaries(st.integers(1, 6), st.lists(st.sampled_from(BOOKS[:40]), unique=True, max_size=30), max_size=6)


@on_any_machine
@given(wanted=WANTED, size=st.integers(1, 25), most=st.lists(st.integers(0, 12), min_size=6, max_size=6))
def test_a_batch_is_filled_in_equal_turns_as_far_as_everybody_wants_and_can_pay(
    wanted: dict[int, list[str]], size: int, most: list[int]
) -> None:
    limits = {consumer: most[consumer - 1] for consumer in wanted}
    batch = fill(wanted, size=size, most=limits)
    taken = Counter(batch.values())
    assert len(batch) <= size
    for consumer, isbns in wanted.items():
        own = [isbn for isbn, payer in batch.items() if payer == consumer]
        assert own == [isbn for isbn in isbns if isbn in own], "in the order in which it wants them"
        assert len(own) <= limits[consumer]
        if len(own) < limits[consumer] and not set(isbns) <= set(batch):  # it wants more, and can pay for more
            assert len(batch) == size
            assert max(taken.values()) - len(own) <= 1, "nobody has more than one turn more"


@on_any_machine
@given(
    batch=st.dictionaries(st.sampled_from(BOOKS), st.integers(1, 5), min_size=1, max_size=40),
    hours=st.dictionaries(st.integers(1, 5), st.integers(0, 3)),
)
def test_the_first_payer_has_the_most_isbns_and_among_equals_was_chosen_longest_ago(
    batch: dict[str, int], hours: dict[int, int]
) -> None:
    chosen_at = {consumer: datetime(2026, 5, 5, hour, tzinfo=UTC) for consumer, hour in hours.items()}
    shares = by_share(batch, chosen_at)
    assert {isbn: payer for payer, isbns in shares.items() for isbn in isbns} == batch
    first, *others = shares
    assert all(len(shares[first]) >= len(shares[other]) for other in others)
    for other in others:
        if len(shares[other]) == len(shares[first]):
            assert hours.get(first, -1) <= hours.get(other, -1)


@pytest.mark.usefixtures("people")
@hypothesis_settings(
    max_examples=25,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(
    asked=st.dictionaries(PEOPLE, st.sets(PLACES)),
    held=st.sets(PLACES, max_size=4),
    failed=st.sets(PLACES, max_size=4),
    seconds=st.sampled_from([0, 20, 100]),
    able=st.sets(PEOPLE),
)
@example(asked={"ann": set(range(SIZE))}, held=set(), failed=set(), seconds=0, able={"ann"})  # just full
@example(asked={"ann": set(range(SIZE - 1))}, held=set(), failed=set(), seconds=0, able={"ann"})
def test_a_flusher_finds_a_batch_exactly_when_the_queue_says_that_one_is_worth_a_request(
    at: At, asked: dict[str, set[int]], held: set[int], failed: set[int], seconds: int, able: set[str]
) -> None:
    """If the two differed, every look at the queue would begin a flush that sends nothing, or none would."""
    delete(QueuedIsbn.objects.all())
    at(0)
    for slug, places in asked.items():
        isbns = [BOOKS[place] for place in places]
        enqueue(isbns, priority=HIGH if slug == "ann" else NORMAL, consumer=slug)
    isbns_at = {place: QueuedIsbn.objects.filter(pk=BOOKS[place]) for place in (*held, *failed)}
    for place in held:
        isbns_at[place].update(held_until=NOON + timedelta(hours=1), attempts=1)
    for place in failed:
        isbns_at[place].update(held_until=None, attempts=MAX_ATTEMPTS)
    at(seconds)
    consumers = Consumer.objects.filter(slug__in=able).values_list("pk", flat=True)
    wanted = wanted_next(consumers, size=SIZE)
    assert (wanted.is_due or wanted.fills(SIZE)) == selectors._is_due(list(consumers))


@pytest.mark.usefixtures("people")
def test_a_consumer_with_many_due_isbns_lets_another_through_with_the_next_batch(at: At) -> None:
    ask("ann", 0, 100)
    at(20)
    ask("bob", 100, 1, NORMAL)
    with patch("enrichment.services.queue_flush.MAX_BATCHES", 1):
        flush()
    assert Edition.objects.filter(isbn13=BOOKS[100]).exists()
    assert not Asker.objects.filter(consumer__slug="bob").exists()


# Who pays


@pytest.mark.usefixtures("people")
def test_by_the_request_the_consumer_with_the_most_isbns_pays_and_equals_pay_in_turn(at: At, sandbox: Sandbox) -> None:
    ask("ann", 0, 3)
    ask("bob", 3, 5)
    at(10)
    flush()
    assert paid() == {"bob": 1}
    for turn in range(4):  # of ann and bob with two each
        ask("ann", 10 + 4 * turn, 2)
        ask("bob", 12 + 4 * turn, 2)
        at(30 + 20 * turn)
        flush()
    assert paid() == {"ann": 2, "bob": 3}
    assert sent() == [8, 4, 4, 4, 4]
    assert balance(sandbox) == (5, 5)


@pytest.mark.usefixtures("by_the_isbn")
def test_by_the_isbn_each_consumer_pays_its_own_isbns_of_one_request(at: At, sandbox: Sandbox) -> None:
    ask("ann", 0, 3)
    ask("bob", 3, 5)
    ask("cid", 0, 1)  # ann has asked for it too
    at(10)
    assert flush().enrichment.api_calls == 8
    assert sent() == [8]
    assert Counter(paid()) == Counter(ann=paid()["ann"], bob=5, cid=3 - paid()["ann"])
    assert Call.objects.exclude(share_of=None).count() == len(paid()) - 1
    assert set(Call.objects.values_list("outcome", flat=True)) == {"ok"}
    assert not Asker.objects.exists()
    assert balance(sandbox) == (8, 8)


@pytest.mark.parametrize("price", ["request", "isbn"])
@pytest.mark.usefixtures("people")
def test_a_consumer_with_a_budget_of_one_has_one_call_made_for_it(
    price: str, at: At, sandbox: Sandbox, settings
) -> None:
    settings.ISBNDB_BATCH_PRICE = price
    sandbox.set_plan(batch_price=price)
    Consumer.objects.filter(slug="ann").update(daily_budget=1)
    ask("ann", 0, 60)
    ask("bob", 60, 4)
    at(10)
    for _ in range(3):
        done = flush()
    assert paid()["ann"] == 1
    assert done.stopped_reason == "daily_budget"
    left = get_queue().of("ann")
    assert left.refused_by == "daily_budget"
    assert left.why == "The consumer ann's daily budget is used or reserved. Its daily budget is 1."
    assert Asker.objects.filter(consumer__slug="ann").count() == left.isbns >= 60 - SIZE
    assert set(Asker.objects.values_list("queued__attempts", flat=True)) == {0}
    assert sandbox.spent == balance(sandbox)[1] == sum(paid().values())
    assert not Refusal.objects.exists(), "who cannot pay is not even tried"


@pytest.mark.usefixtures("by_the_isbn")
def test_an_isbn_that_its_first_asker_cannot_pay_is_paid_by_another(at: At, sandbox: Sandbox) -> None:
    Consumer.objects.filter(slug="ann").update(active=False)
    ask("ann", 0, 2)
    ask("bob", 0, 1)
    at(10)
    flush()
    assert paid() == {"bob": 1}
    assert [asker.queued_id for asker in Asker.objects.all()] == [BOOKS[1]]
    assert balance(sandbox) == (1, 1)


@pytest.mark.parametrize("price", ["request", "isbn"])
@pytest.mark.usefixtures("people")
def test_who_is_refused_at_the_last_moment_waits_and_the_others_are_served(
    price: str, at: At, sandbox: Sandbox, settings
) -> None:
    settings.ISBNDB_BATCH_PRICE = price
    sandbox.set_plan(batch_price=price)
    ask("ann", 0, 6)
    ask("bob", 6, 4)
    at(10)
    hold = Spender.hold

    def spend_the_budget_first(self: Spender, calls: int) -> None:
        Consumer.objects.filter(slug="ann").update(daily_budget=0)
        hold(self, calls)

    with patch.object(Spender, "hold", spend_the_budget_first):
        assert flush().stopped_reason == "daily_budget"
    assert sent() == [4]
    assert paid() == {"bob": 4 if price == "isbn" else 1}
    assert Asker.objects.filter(consumer__slug="ann", queued__attempts=0, queued__claim=None).count() == 6
    assert sandbox.spent == balance(sandbox)[1]


@pytest.mark.usefixtures("by_the_isbn")
def test_a_retry_is_paid_again_by_all_and_halves_by_their_own_payers(at: At, sandbox: Sandbox, settings) -> None:
    ask("ann", 0, 3)
    ask("bob", 3, 2)
    at(10)
    sandbox.add_fault("status", status=503, times=1)
    flush()
    assert paid() == {"ann": 6, "bob": 4}
    assert sent() == [5, 5]

    settings.ISBNDB_BATCH_SIZE = 200
    books = known_isbns(400)[150:]
    enqueue(books[:60], priority=HIGH, consumer="ann")
    enqueue(books[60:130], priority=HIGH, consumer="bob")
    at(20)
    sandbox.add_fault("status", status=500, times=1)  # an answer that is too large
    assert flush().batches == 2
    assert sent() == [5, 5, 130, 65, 65]
    assert paid() == {"ann": 6 + 2 * 60, "bob": 4 + 2 * 70}
    assert balance(sandbox)[0] == balance(sandbox)[1] == sum(paid().values())


@pytest.mark.usefixtures("people")
def test_while_the_price_is_unknown_two_isbns_of_the_first_payer_measure_it(at: At, sandbox: Sandbox, settings) -> None:
    settings.ISBNDB_BATCH_PRICE = "measure"
    ask("ann", 0, 3)
    ask("bob", 3, 4)
    at(10)
    flush()
    assert PriceMeasurement.objects.latest("id").batch_price == "request"
    assert sorted(sent(), key=lambda isbns: -isbns)[:2] == [5, 2]
    assert not Asker.objects.exists()
    spent, used = balance(sandbox)
    assert used >= spent, "until the price was known, the higher one was charged"


@pytest.mark.usefixtures("by_the_isbn")
def test_a_failed_batch_is_paid_by_all_and_comes_back_for_all(at: At, sandbox: Sandbox) -> None:
    ask("ann", 0, 2)
    ask("bob", 2, 2)
    at(10)
    sandbox.add_fault("garbage", body=json.dumps({"wrong": True}), times=1)
    with pytest.raises(EnrichmentStopped):
        flush()
    assert paid() == {"ann": 2, "bob": 2}
    assert set(Asker.objects.values_list("queued__attempts", "queued__claim")) == {(1, None)}
    at(40)
    assert flush().batches == 1
    assert paid() == {"ann": 4, "bob": 4}
    assert balance(sandbox) == (8, 8)


@pytest.mark.slow
@pytest.mark.usefixtures("by_the_isbn")
def test_many_flushers_charge_every_isbn_once(at: At, sandbox: Sandbox) -> None:
    ask("ann", 0, 70)
    ask("bob", 50, 40)
    ask("cid", 90, 7)
    at(10)
    sandbox.add_fault("latency", seconds=0.05)

    def work() -> None:
        flush()
        connection.close()

    with patient_database():
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not QueuedIsbn.objects.exists()
    assert Edition.objects.count() == sum(sent()) == sum(paid().values()) == 97
    assert paid()["cid"] == 7
    assert balance(sandbox) == (97, 97)


# How many ISBNs a consumer may queue


@pytest.mark.usefixtures("people")
def test_a_consumer_that_would_queue_too_many_isbns_is_told_the_limit_and_others_are_not(settings) -> None:
    settings.MAX_QUEUED_PER_CONSUMER = 5
    ask("ann", 0, 4)
    ask("ann", 0, 4)  # they wait already
    with pytest.raises(QueueFull, match="MAX_QUEUED_PER_CONSUMER") as full:
        ask("ann", 2, 4)
    assert (full.value.allowed, full.value.used, full.value.asked) == (5, 4, 2)
    assert QueuedIsbn.objects.count() == 4
    ask("bob", 0, 5)
    ask("ann", 4, 1)
    assert Counter(Asker.objects.values_list("consumer__slug", flat=True)) == {"ann": 5, "bob": 5}


def queue_at_once(callers: int) -> int:
    """Lets threads queue 4 ISBNs each, all for one consumer; returns how many of them were taken."""
    start = threading.Barrier(callers, timeout=60)
    taken: list[int] = []

    def work(number: int) -> None:
        start.wait()
        try:
            ask("ann", 4 * number, 4)
            taken.append(4)
        except QueueFull:
            pass
        finally:
            connection.close()

    with patient_database():
        threads = [threading.Thread(target=work, args=(number,)) for number in range(callers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return sum(taken)


@pytest.mark.usefixtures("people")
def test_requests_together_cannot_pass_the_limit(settings) -> None:
    settings.MAX_QUEUED_PER_CONSUMER = 9
    assert queue_at_once(8) == Asker.objects.count() == 8


@pytest.mark.usefixtures("people")
def test_without_the_lock_of_the_consumer_they_would(settings) -> None:
    settings.MAX_QUEUED_PER_CONSUMER = 9
    together = threading.Barrier(4, timeout=60)
    filtered = Asker.objects.filter

    def count_together(**options: object) -> SimpleNamespace:
        found = filtered(**options).count()
        together.wait()
        return SimpleNamespace(count=lambda: found)

    with (
        patch.object(Consumer.objects, "select_for_update", lambda **options: Consumer.objects.all()),
        patch.object(Asker.objects, "filter", count_together),
    ):
        assert queue_at_once(4) == 16

"""A batch for which several consumers pay: who pays what, in one statement, and what the journal says of it."""

import threading
import uuid
from datetime import timedelta

import pytest
from django.db import connection

from quota.exceptions import ConsumerInactive, DayOver, QuotaRefused, ReservationClosed, ReservationSpent, ShareNotPaid
from quota.models import Call, Consumer, ConsumerUsage, PriceMeasurement
from quota.prices import RequestKind
from quota.selectors.status import check_ledger, get_status
from quota.services import corrections, reservations
from quota.services.reservations import LEASE, DispatchedCall, record, reserve, settle
from quota.services.shares import dispatch_shared, shares_of_batch
from quota.shared_spending import SharedPayer
from quota.spending import for_one_question
from tests.fixtures import At

pytestmark = pytest.mark.django_db(transaction=True)
PEOPLE = ("ann", "bob", "cid")


@pytest.fixture(autouse=True)
def people(at: At, settings) -> None:
    settings.ISBNDB_BATCH_PRICE = "isbn"
    for slug in PEOPLE:
        Consumer.objects.create(slug=slug)


def hold(*calls: int) -> list[uuid.UUID]:
    return [reserve(consumer=slug, operation="queue", calls=each) for slug, each in zip(PEOPLE, calls, strict=False)]


def send(*payers: tuple[uuid.UUID | None, int]) -> DispatchedCall:
    call = dispatch_shared(payers, method="POST", path="/books")
    assert isinstance(call, DispatchedCall)
    return call


def used() -> dict[str, tuple[int, int, int]]:
    """Calls used, calls reserved and requests of each consumer."""
    assert check_ledger(get_status().day) == []
    rows = ConsumerUsage.objects.values_list("consumer__slug", "used", "reserved", "requests")
    return {slug: (used, reserved, requests) for slug, used, reserved, requests in rows}


def test_by_the_isbn_each_payer_pays_its_own_isbns_of_one_request() -> None:
    ann, bob, cid = hold(5, 3, 2)
    call = send((ann, 5), (bob, 3), (cid, 2))
    assert call.price == 10
    assert used() == {"ann": (5, 0, 1), "bob": (3, 0, 0), "cid": (2, 0, 0)}
    assert (get_status().used, get_status().requests) == (10, 1)
    rows = Call.objects.order_by("pk").values_list("consumer__slug", "share_of", "calls", "isbns_asked", "path")
    assert list(rows) == [
        ("ann", None, 5, 10, "/books"),
        ("bob", call.id, 3, None, "/books"),
        ("cid", call.id, 2, None, "/books"),
    ]
    record(call, Call.Outcome.OK, status=200, latency_ms=7, isbns_found=9)
    assert set(Call.objects.values_list("outcome", "status")) == {("ok", 200)}
    assert list(Call.objects.order_by("pk").values_list("isbns_found", flat=True)) == [9, None, None]


def test_by_the_request_the_first_payer_pays_for_all(settings) -> None:
    settings.ISBNDB_BATCH_PRICE = "request"
    [ann] = hold(1)
    assert send((ann, 5), (None, 3)).price == 1
    assert used() == {"ann": (1, 0, 1)}
    assert Call.objects.get().isbns_asked == 8
    assert shares_of_batch([7, 2]) == [(1, 0), (1, 0)]
    settings.ISBNDB_BATCH_PRICE = "measure"
    assert shares_of_batch([7, 2]) == [(7, 7), (2, 2)]


def test_when_one_payer_cannot_pay_nobody_does_and_the_answer_says_which() -> None:
    ann, bob = hold(5, 2)
    with pytest.raises(ShareNotPaid) as unpaid:
        send((ann, 5), (bob, 3))
    assert (unpaid.value.payer, type(unpaid.value.why)) == (1, ReservationSpent)
    assert unpaid.value.why.missing == 1
    with pytest.raises(ShareNotPaid) as unpaid:
        send((ann, 5), (None, 3))
    assert (unpaid.value.payer, unpaid.value.why.missing) == (1, 3)
    settle(bob)
    with pytest.raises(ShareNotPaid) as unpaid:
        send((ann, 5), (bob, 2))
    assert (unpaid.value.payer, type(unpaid.value.why)) == (1, ReservationClosed)
    [bob] = [reserve(consumer="bob", operation="queue", calls=2)]
    Consumer.objects.filter(slug="bob").update(active=False)
    with pytest.raises(ConsumerInactive):
        send((ann, 5), (bob, 2))
    assert used() == {"ann": (0, 5, 0), "bob": (0, 2, 0)}
    assert not Call.objects.exists()


def test_nobody_pays_with_calls_of_yesterday(at: At) -> None:
    at(12 * 3600 - 60)
    bob = reserve(consumer="bob", operation="queue", calls=3, lease=timedelta(days=1))
    at(12 * 3600 + 60)
    [ann] = hold(5)
    with pytest.raises(ShareNotPaid) as unpaid:
        send((ann, 5), (bob, 3))
    assert (unpaid.value.payer, type(unpaid.value.why)) == (1, DayOver)
    assert get_status().used == 0


def test_the_safety_limit_counts_all_shares(settings) -> None:
    settings.QUOTA_DAILY_LIMIT, settings.QUOTA_SAFETY_BUFFER = 20, 10
    ann, bob = hold(5, 3)
    reservations.increment(3)
    with pytest.raises(QuotaRefused, match="All calls of today"):
        send((ann, 5), (bob, 3))
    assert get_status().used == 3


def test_a_price_that_rises_between_reserving_and_sending_is_asked_of_each_payer(settings) -> None:
    settings.ISBNDB_BATCH_PRICE = "request"
    [ann] = hold(1)
    settings.ISBNDB_BATCH_PRICE = "isbn"
    with pytest.raises(ShareNotPaid) as unpaid:
        send((ann, 5), (None, 3))
    assert (unpaid.value.payer, unpaid.value.why.missing) == (0, 4)
    assert not Call.objects.exists()


def test_shares_count_as_one_batch_when_isbndbs_counter_shows_another_price(settings, at: At) -> None:
    """By our count 100 + 40 + 2 calls; ISBNdb counts one for each of the two batches: a request costs one call."""
    settings.ISBNDB_BATCH_PRICE = "measure"
    ann, bob = hold(60, 42)
    for call in (send((ann, 58), (bob, 42)), send((ann, 2))):
        record(call, Call.Outcome.OK, status=200)
    at(10)
    key = reservations.reserve_and_dispatch(
        consumer="cid", operation="reconcile", calls=0, kind=RequestKind.KEY, method="GET", path="/key"
    )[2]
    assert isinstance(key, DispatchedCall)
    record(key, Call.Outcome.OK, status=200)
    seen = corrections.reconcile(key, spent=3, total=15_000, left=14_997)
    assert seen.price_seen == "request"
    corrections.take_figure(seen, reason="we are billed by the request", made_with="a test")
    assert PriceMeasurement.objects.latest("id").batch_price == "request"
    assert get_status().used == 3
    assert used()["bob"][0] == 0, "bob has paid a share of a request of ann"


@pytest.mark.slow
@pytest.mark.usefixtures("no_waits")
def test_payers_that_share_batches_at_once_never_pay_twice_or_pass_the_limit(settings) -> None:
    settings.QUOTA_DAILY_LIMIT, settings.QUOTA_SAFETY_BUFFER, settings.QUOTA_MAX_RPS = 120, 10, 1_000_000
    held = [hold(4, 3) for _ in range(10)]
    sent: list[DispatchedCall] = []
    start = threading.Barrier(8, timeout=60)

    def work() -> None:
        start.wait()
        for ann, bob in held:  # all threads want the same ones
            try:
                answer = dispatch_shared([(ann, 4), (bob, 3)], method="POST", path="/books")
                assert isinstance(answer, DispatchedCall)
                sent.append(answer)
            except ShareNotPaid:
                pass
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(sent) == 10
    assert used() == {"ann": (40, 0, 10), "bob": (30, 0, 0)}


def test_payers_of_a_question_outlive_the_leases_of_their_reservations(at: At) -> None:
    spenders = [for_one_question(consumer=slug, operation="queue") for slug in PEOPLE[:2]]
    payer = SharedPayer([(spender, 2) for spender in spenders])
    payer.hold()
    at(LEASE.total_seconds() + 1)
    assert isinstance(payer.dispatch(RequestKind.BATCH, "POST", "/books", isbns_asked=4), DispatchedCall)
    at(2 * LEASE.total_seconds() + 2)
    payer.extend(4)
    assert isinstance(payer.dispatch(RequestKind.BATCH, "POST", "/books", isbns_asked=4), DispatchedCall)
    payer.done()
    assert used() == {"ann": (4, 0, 2), "bob": (4, 0, 0)}

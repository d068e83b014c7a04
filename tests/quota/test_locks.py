"""Two processes decide about the same day at the same moment, with the lock of the ledger and without it.

Both begin while the day's ledger is locked, so no one has changed it when the other begins.
"""

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from pytest_django import DjangoDbBlocker

from alexandria.env import BASE_DIR
from quota.exceptions import CorrectionRefused, DayOver
from quota.models import Call, Consumer, DailyLedger
from quota.prices import RequestKind
from quota.selectors.status import check_ledger, get_status
from quota.services import corrections, reservations
from quota.services.reservations import EXTERNAL, DispatchedCall
from quota.services.shares import dispatch_shared
from tests.fixtures import NOON, QUOTA_NOW, At, changed_function, stop_database_clock

FUNCTIONS = BASE_DIR / "quota" / "sql" / "functions.sql"
MIDNIGHT = datetime(2026, 5, 6, tzinfo=UTC)
LOCK = "FOR NO KEY UPDATE"
BLOCKED = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock' AND pid <> pg_backend_pid()"""


@pytest.fixture(scope="module", autouse=True)
def patient_functions(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """The SQL functions wait long for a lock, as the machine may be busy."""
    functions = FUNCTIONS.read_text()

    def run(text: str) -> None:
        with django_db_blocker.unblock(), connection.cursor() as cursor:
            cursor.execute(text)

    run(functions.replace("'2s'", "'60s'"))
    yield
    run(functions)


@pytest.fixture(autouse=True)
def small_day(at: At, no_waits: None, settings) -> None:
    """100 calls, of which 60 are reserved."""
    settings.QUOTA_DAILY_LIMIT, settings.QUOTA_SAFETY_BUFFER, settings.ISBNDB_BATCH_PRICE = 120, 20, "isbn"
    Consumer.objects.create(slug="reader")
    Consumer.objects.create(slug=EXTERNAL)
    reserve(60)


def reserve(calls: int, *, lease: timedelta = timedelta(days=1)) -> uuid.UUID:
    return reservations.reserve(consumer="reader", operation="test", calls=calls, lease=lease)


def dispatch(reservation: uuid.UUID) -> DispatchedCall:
    call = reservations.dispatch(reservation, kind=RequestKind.PAGE, method="GET", path="/author/x")
    assert isinstance(call, DispatchedCall)
    return call


def blocked() -> int:
    """How many sessions wait for a lock."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_clear_snapshot()")  # otherwise a transaction always sees the same
        cursor.execute(BLOCKED)
        return int(cursor.fetchone()[0])


def while_the_ledger_is_locked(*works: Callable[[], object], then: Callable[[], object] = lambda: None) -> list[Any]:
    """Begins the works one after the other while today's ledger is locked, does `then`, and lets them go on.

    Returns what each of them returned or raised.
    """
    results: list[Any] = [None] * len(works)

    def run(number: int, work: Callable[[], object]) -> None:
        try:
            results[number] = work()
        except Exception as error:  # noqa: BLE001 (a result like another)
            results[number] = error
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=each) for each in enumerate(works)]
    with transaction.atomic():
        list(DailyLedger.objects.select_for_update(no_key=True))
        for number, thread in enumerate(threads, start=1):
            thread.start()
            while blocked() < number:
                assert thread.is_alive(), results
                time.sleep(0.01)
        then()
    for thread in threads:
        thread.join()
    return results


def twice(work: Callable[[], object]) -> list[Any]:
    return while_the_ledger_is_locked(work, work)


def kinds(results: list[Any]) -> list[str]:
    return sorted(type(result).__name__ for result in results)


def reservations_of_the_last_calls() -> bool:
    return kinds(twice(lambda: reserve(30))) == ["QuotaRefused", "UUID"] and get_status().reserved == 90


def extensions_for_the_last_calls() -> bool:
    mine, other = reserve(1), reserve(1)
    results = while_the_ledger_is_locked(
        lambda: reservations.extend(mine, calls=30), lambda: reservations.extend(other, calls=30)
    )
    return kinds(results) == ["NoneType", "QuotaRefused"] and get_status().reserved == 92


def dispatches_of_two_operations() -> bool:
    mine, other = reserve(1), reserve(1)
    first, second = while_the_ledger_is_locked(lambda: dispatch(mine), lambda: dispatch(other))
    return bool(first.send_at != second.send_at)


def a_dispatch_and_the_return_of_the_rest() -> bool:
    mine = reserve(5)
    results = while_the_ledger_is_locked(lambda: dispatch(mine), lambda: reservations.shrink(mine, left=0))
    return results[1] == 4 and get_status().reserved == 60


def two_ends_of_an_operation() -> bool:
    mine = reserve(5)
    return twice(lambda: reservations.settle(mine)) == [5, 0] and get_status().reserved == 60


def two_looks_for_leases_that_have_run_out() -> bool:
    reserve(5, lease=timedelta())
    return twice(reservations.expire) == [1, 0] and get_status().reserved == 60


def two_batches_of_the_same_payers() -> bool:
    first, second = reserve(10), reserve(1)
    results = twice(lambda: dispatch_shared([(first, 1), (second, 1)], method="POST", path="/books"))
    return kinds(results) == ["DispatchedCall", "ShareNotPaid"]


def two_people_who_open_a_closed_day() -> bool:
    DailyLedger.objects.update(closed_at=NOON, closed_reason="Daily quota exceeded")
    results = twice(lambda: corrections.reopen_day(reason="a test", made_with="a test"))
    return kinds(results) == ["CorrectionRefused", "Reopening"]


def answered() -> DispatchedCall:
    call = dispatch(reserve(1))
    reservations.record(call, Call.Outcome.OK)
    return call


def two_comparisons_with_isbndbs_counter() -> bool:
    calls = iter([answered(), answered()])
    twice(lambda: corrections.reconcile(next(calls), spent=8, total=120, left=112))
    return get_status().used == 8


def two_people_who_take_isbndbs_figure() -> bool:
    reservations.increment(9)
    call = answered()
    stop_database_clock(NOON + timedelta(seconds=1))
    seen = corrections.reconcile(call, spent=4, total=120, left=116)
    stop_database_clock(NOON + timedelta(seconds=2))
    results = twice(lambda: corrections.take_figure(seen, reason="a test", made_with="a test"))
    return kinds(results) == ["CorrectionRefused", "int"] and get_status().used == 4


RACES = {
    "quota_reserve": reservations_of_the_last_calls,
    "quota_extend": extensions_for_the_last_calls,
    "quota_dispatch": dispatches_of_two_operations,
    "quota_shrink": a_dispatch_and_the_return_of_the_rest,
    "quota_settle": two_ends_of_an_operation,
    "quota_expire": two_looks_for_leases_that_have_run_out,
    "quota_dispatch_shared": two_batches_of_the_same_payers,
    "quota_reopen_day": two_people_who_open_a_closed_day,
    "quota_reconcile": two_comparisons_with_isbndbs_counter,
    "quota_take_figure": two_people_who_take_isbndbs_figure,
}
"""Two works at once, by the SQL function whose lock they need. Each returns whether what came of them is right."""


@pytest.mark.parametrize("function", RACES)
def test_of_two_at_once_the_second_decides_by_what_the_first_has_committed(function: str) -> None:
    assert RACES[function]()
    assert check_ledger(NOON.date()) == []


@pytest.mark.parametrize("function", RACES)
def test_without_the_lock_of_the_ledger_both_decide_by_old_figures(function: str) -> None:
    with changed_function(function, LOCK, ""):
        assert not RACES[function]()


# Midnight passes while they wait


def over_midnight(work: Callable[[], object]) -> Any:
    """What the work came to, if it waits for the ledger from ten seconds before midnight until ten after it.

    The clock is a sequence, because a statement that waits would not see another clock, and does see its next value.
    """
    before, after = (int((MIDNIGHT + timedelta(seconds=seconds)).timestamp()) for seconds in (-10, 10))
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE SEQUENCE clock_of_test START {before}")
        cursor.execute(
            f"CREATE OR REPLACE {QUOTA_NOW} AS 'SELECT to_timestamp(last_value) FROM clock_of_test'"  # noqa: S608
        )
        try:
            [result] = while_the_ledger_is_locked(
                work, then=lambda: cursor.execute("SELECT setval('clock_of_test', %s)", [after])
            )
            assert [found for ledger in DailyLedger.objects.all() for found in check_ledger(ledger.day)] == []
        finally:
            stop_database_clock(NOON)
            cursor.execute("DROP SEQUENCE clock_of_test")
    return result


def test_a_reservation_that_waits_over_midnight_is_one_of_the_new_day() -> None:
    over_midnight(lambda: reserve(50))
    assert [(ledger.day, ledger.reserved) for ledger in DailyLedger.objects.order_by("day")] == [
        (NOON.date(), 60),
        (MIDNIGHT.date(), 50),
    ]


def test_calls_made_outside_that_wait_over_midnight_are_recorded_on_the_new_day() -> None:
    assert over_midnight(lambda: reservations.increment(7)) is None
    assert list(DailyLedger.objects.order_by("day").values_list("used", flat=True)) == [0, 7]


@pytest.mark.parametrize("step", ["dispatch", "extend"])
def test_a_reserved_call_that_waits_over_midnight_is_not_spent(step: str) -> None:
    mine = reserve(5)
    result = over_midnight(lambda: dispatch(mine) if step == "dispatch" else reservations.extend(mine))
    assert isinstance(result, DayOver)
    assert list(DailyLedger.objects.values_list("used", "reserved")) == [(0, 65)]


def test_an_answer_of_isbndb_that_waits_over_midnight_does_not_open_yesterday() -> None:
    DailyLedger.objects.update(closed_at=NOON, closed_reason="Daily quota exceeded")
    result = over_midnight(lambda: corrections.reopen_day(reason="a test", made_with="a test"))
    assert isinstance(result, CorrectionRefused)
    assert DailyLedger.objects.get(pk=NOON.date()).closed_at is not None

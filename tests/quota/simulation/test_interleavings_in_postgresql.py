# ruff: noqa: S608 (names of tables)
"""Two statements of the quota at once, in every order of their steps, in two sessions of PostgreSQL (`sessions.py`).

Whatever the order, both answers and all rows are those of one statement after the other. Without the lock they are not.
"""

import os
import uuid
from collections.abc import Iterator
from datetime import timedelta
from itertools import combinations_with_replacement

import pytest
from django.db import connection, models
from psycopg.types.json import Jsonb

from quota.models import (
    Adjustment,
    Call,
    Consumer,
    ConsumerUsage,
    DailyLedger,
    PriceMeasurement,
    Reconciliation,
    Reopening,
    Reservation,
)
from quota.prices import RequestKind
from quota.services import corrections, prices, reservations, shares
from tests.fixtures import NOON, changed_function, stop_database_clock
from tests.quota.simulation.sessions import Interleavings, Params, Result, Statement, pausing

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True), pytest.mark.no_cover]

FAR = timedelta(hours=1)
WRITTEN: list[type[models.Model]] = [
    DailyLedger,
    ConsumerUsage,
    Reservation,
    Call,
    PriceMeasurement,
    Reconciliation,
    Reopening,
    Adjustment,
]
"""What the statements write, in the order of their foreign keys."""
UNPREDICTABLE = ["id", "reservation_id", "call_id", "share_of_id", "figures"]
"""Columns with numbers of new rows and ids of new reservations: they differ from run to run."""
PARAMS: Params = {
    "active": Jsonb({}),
    "answered_at": NOON + timedelta(seconds=1),
    "apart": 60.0,
    "batch_price": "isbn",
    "calls": 2,
    "daily_limit": 8,
    "day": NOON.date(),
    "enforcement": "enforce",
    "ignored": "",
    "in_flight": 0,
    "isbns": [1, 1],
    "isbns_asked": 2,
    "kind": RequestKind.BATCH,
    "lease": 120.0,
    "left": 0,
    "made_by": None,
    "made_with": "a test",
    "max_rps": 3,
    "method": "POST",
    "note": "",
    "outcome": "adjusted",
    "path": "/books",
    "reason": "x",
    "safety_buffer": 3,
    "seconds": 10.0,
    "source": "",
    "urgent": True,
    "verdict": "",
}
STATEMENTS = {
    "reserve": reservations._RESERVE,
    "reserve and dispatch": reservations._RESERVE_AND_DISPATCH,
    "dispatch": reservations._DISPATCH,
    "dispatch shared": shares._DISPATCH_SHARED,
    "move": reservations._MOVE,
    "extend": reservations._EXTEND,
    "shrink": reservations._SHRINK,
    "settle": reservations._SETTLE,
    "expire": reservations._EXPIRE,
    "increment": reservations._INCREMENT,
    "adjust": corrections._ADJUST,
    "reconcile": corrections._RECONCILE,
    "close the day": reservations._CLOSE_DAY,
    "reopen": corrections._REOPEN,
    "apply limits": corrections._APPLY_LIMITS,
    "slow down": reservations._SLOW_DOWN,
    "hold the pace": prices._HOLD_PACE,
    "claim settling": reservations._CLAIM_SETTLING,
}


def statement(name: str, operation: str) -> Statement:
    """The SQL with which a service asks PostgreSQL. `operation`: of what it reserves."""

    def params(ids: dict[str, uuid.UUID]) -> Params:
        reader = Consumer.objects.get(slug="reader")
        calls = {call.operation: call.pk for call in Call.objects.all()}
        own = {
            "consumer": reader.pk if name in {"adjust", "reconcile"} else "reader",
            "operation": operation,
            "reservation": ids["held"],
            "reservations": [ids["held"], ids["other"]],
            "call": calls[f"question {operation}" if name == "reconcile" else "held"],
            "calls": -1 if name == "adjust" else 2,
            "compared_spent": 4,
            "compared_left": 4,
            "spent": 4,
            "total": 8,
        }
        return PARAMS | own

    return Statement(name, STATEMENTS[name], params)


def begin() -> dict[str, uuid.UUID]:
    """A day with 9 calls: 3 are used, 2 reserved by `held`, 1 by `other`, 1 by a lease that has run out; 2 are free."""
    stop_database_clock(NOON)
    for slug in ("reader", "other", "external"):
        Consumer.objects.create(slug=slug)
    reservations.open_ledger()
    DailyLedger.objects.update(daily_limit=12, safety_buffer=3)
    held = {"held": ("reader", 3, FAR), "other": ("other", 1, FAR), "dead": ("other", 1, timedelta())}
    questions = {f"question {letter}": ("reader", 1, FAR) for letter in "AB"}
    ids = {
        operation: reservations.reserve(consumer=consumer, operation=operation, calls=calls, lease=lease)
        for operation, (consumer, calls, lease) in (held | questions).items()
    }
    reservations.dispatch(ids["held"], kind=RequestKind.PAGE, method="GET", path="/x")
    for question in questions:
        reservations.dispatch(ids[question], kind=RequestKind.KEY, method="GET", path="/key")
    stop_database_clock(NOON + timedelta(seconds=5))
    return ids


def _columns(model: type[models.Model]) -> str:
    return ", ".join(f'"{field.column}"' for field in model._meta.local_fields if not field.generated)


class State:
    """The rows of all tables that the statements write: kept once, and put back before each order."""

    def __init__(self, ids: dict[str, uuid.UUID]) -> None:
        self.ids = ids
        tables = [(model._meta.db_table, _columns(model)) for model in WRITTEN]
        keep = [f"CREATE TEMP TABLE kept_{table} AS SELECT {columns} FROM {table}" for table, columns in tables]
        empty = [f"DELETE FROM {table}" for table, _ in reversed(tables)]
        fill = [
            f"INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM kept_{table}"
            for table, columns in tables
        ]
        self.restoring = "; ".join(["BEGIN", *empty, *fill, "COMMIT"])
        self.reading = " UNION ALL ".join(
            f"SELECT '{table} ' || (to_jsonb({table}) - %(unpredictable)s::text[])::text FROM {table}"
            for table, _ in tables
        )
        with connection.cursor() as cursor:
            cursor.execute("; ".join(keep))

    def restore(self) -> dict[str, uuid.UUID]:
        with connection.cursor() as cursor:
            cursor.execute(self.restoring)
        return self.ids

    def rows(self) -> str:
        with connection.cursor() as cursor:
            cursor.execute(self.reading, {"unpredictable": UNPREDICTABLE})
            return "\n".join(sorted(row[0] for row in cursor.fetchall()))


@pytest.fixture
def interleavings(set_clock: None) -> Iterator[Interleavings]:
    state = State(begin())
    both = Interleavings(state.restore, state.rows)
    yield both
    both.close()
    connection.close()  # with the rows that were kept


ALL_PAIRS = list(combinations_with_replacement(STATEMENTS, 2))
PAIRS = [
    (one, other)
    for one, other in ALL_PAIRS
    if one == other
    or "reserve and dispatch" in (one, other)
    or {one, other} in ({"dispatch", "settle"}, {"shrink", "expire"})
]


def like_no_serial_order(both: Interleavings, one: str, other: str) -> list[Result]:
    """The orders of two statements that do not do what one after the other does, the simplest first."""
    results = list(both.all_orders((statement(one, "A"), statement(other, "B"))))
    serial = [result.outcome for result in results if result.is_serial]
    assert len(serial) == 2
    wrong = [result for result in results if result.outcome not in serial]
    return sorted(wrong, key=lambda result: (result.turns, len(result.orders)))


def test_two_statements_at_once_do_what_one_after_the_other_does(interleavings: Interleavings) -> None:
    pairs = ALL_PAIRS if os.environ.get("ORDERS") == "all" else PAIRS
    with pausing():
        for one, other in pairs:
            for wrong in like_no_serial_order(interleavings, one, other):
                pytest.fail("\n".join(wrong.steps))


def test_without_its_lock_a_reservation_overruns_the_limit_and_the_steps_say_how(interleavings: Interleavings) -> None:
    """2 calls are free, and 1 more by a lease that has run out. Two have got 2 each.

    `tests/quota/test_locks.py` takes out the lock of every other function.
    """
    with changed_function("quota_reserve", "FOR NO KEY UPDATE;", ";"), pausing():
        overrun = next(
            result
            for result in like_no_serial_order(interleavings, "reserve", "reserve")
            if [answer[0]["outcome"] for answer in result.answers] == ["granted", "granted"]
        )
    assert overrun.steps == [
        "A (reserve) begins",
        "B (reserve) begins",
        "B (reserve) writes",
        "B (reserve) commits",
        "A (reserve) writes",
        "A (reserve) commits",
    ]

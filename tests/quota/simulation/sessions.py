"""Tries every order of the steps of two sessions of a real PostgreSQL.

A session runs one statement of the quota in a transaction. Its steps are what lies between these pauses: before the
function looks for the lock, after it has it, before it writes, and before the commit. The functions are changed to
pause there, and an advisory lock for each pause says which session goes on. PostgreSQL itself says which session waits
for the other's lock.

An order is right when both answers, and all rows that are left, are those of one statement after the other.
"""

import re
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import psycopg
from django.db import connection
from psycopg.errors import Diagnostic

Params = dict[str, Any]

PAUSES = 40
"""At most so many pauses in one transaction."""
PAUSE = """
    CREATE FUNCTION interleaving_pause(next_step text) RETURNS void LANGUAGE plpgsql AS $$
    DECLARE
        actor integer := nullif(current_setting('interleaving.actor', true), '');
        number integer;
    BEGIN
        IF actor IS NULL THEN
            RETURN;
        END IF;
        number := current_setting('interleaving.number')::integer + 1;
        PERFORM set_config('interleaving.number', number::text, false);
        RAISE NOTICE '%', next_step;
        PERFORM pg_advisory_lock_shared(actor, number);
        PERFORM pg_advisory_unlock_shared(actor, number);
    END $$"""
WAITS = """
    SELECT pid, CASE WHEN locktype = 'advisory' THEN objid::integer END FROM pg_locks
    WHERE NOT granted AND pid = ANY (%(pids)s)"""
FIRST_WRITE = re.compile(
    r"^    (?=UPDATE quota_|INSERT INTO quota_|PERFORM quota_post|PERFORM quota_close)", re.MULTILINE
)
UNPREDICTABLE = {"id", "call", "reservation", "quota_reopen_day"}
"""Columns of answers with numbers and UUIDs that differ from run to run."""


def pause(next_step: str) -> str:
    return f"PERFORM interleaving_pause('{next_step}'); "


def with_pauses(definition: str) -> str:
    """The definition of an SQL function, changed to pause before its lock, after it, and before it writes."""
    changed = definition.replace(
        "PERFORM set_config('lock_timeout', '2s', true);",
        f"PERFORM set_config('lock_timeout', '1min', true); {pause('begins')}",
    )
    changed = changed.replace("FOR NO KEY UPDATE;", f"FOR NO KEY UPDATE; {pause('has the lock, and reads')}")
    return FIRST_WRITE.sub(f"    {pause('writes')}", changed, count=1) if changed != definition else definition


@contextmanager
def pausing() -> Iterator[None]:
    """All functions of the quota pause, in sessions that `Interleavings` controls."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_get_functiondef(oid) FROM pg_proc WHERE starts_with(proname, 'quota_') AND prokind = 'f'"
            " AND pronamespace = 'public'::regnamespace"
        )
        before = [row[0] for row in cursor.fetchall()]
        cursor.execute(PAUSE)
        for definition in before:
            cursor.execute(with_pauses(definition))
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            for definition in before:
                cursor.execute(definition)
            cursor.execute("DROP FUNCTION interleaving_pause(text)")


@dataclass(frozen=True)
class Statement:
    name: str
    sql: str
    params: Callable[[dict[str, uuid.UUID]], Params]
    """From the ids of the reservations that exist, by their operations."""


@dataclass
class Result:
    """What one order has led to."""

    answers: list[Any]
    rows: str
    orders: list[int]
    """Which session took each step."""
    steps: list[str]
    """The same in words."""
    open_choices: list[int]
    """The positions in `orders` at which the other session could have gone on."""

    @property
    def outcome(self) -> tuple[str, str]:
        return repr(self.answers), self.rows

    @property
    def is_serial(self) -> bool:
        """One session took all its steps before the other began."""
        return self.turns == 1

    @property
    def turns(self) -> int:
        """How often the other session went on."""
        return sum(one != other for one, other in pairwise(self.orders))


class Interleavings:
    """Runs two statements in every order, each time from the state that `set_up` makes."""

    def __init__(self, set_up: Callable[[], dict[str, uuid.UUID]], rows: Callable[[], str]) -> None:
        self.set_up, self.rows = set_up, rows
        settings = connection.get_connection_params()
        settings.pop("cursor_factory", None)
        settings.pop("context", None)
        settings["options"] = "-c statement_timeout=1min -c timezone=UTC"
        self.sessions = [psycopg.connect(**settings) for _ in range(2)]
        self.said: list[list[str]] = [[], []]  # what each session did next, at each of its pauses
        for session, said in zip(self.sessions, self.said, strict=True):
            session.add_notice_handler(partial(_keep, said))
        self.controller = psycopg.connect(**settings, autocommit=True)
        self.threads = ThreadPoolExecutor(2)

    def close(self) -> None:
        self.threads.shutdown()
        for session in (*self.sessions, self.controller):
            session.close()

    def all_orders(self, statements: tuple[Statement, Statement]) -> Iterator[Result]:
        """One result for each order, also for one statement after the other."""
        waiting: list[list[int]] = [[]]
        while waiting:
            begin = waiting.pop()
            result = self.run(statements, begin)
            yield result
            waiting += [
                [*result.orders[:position], 1 - result.orders[position]]
                for position in result.open_choices
                if position >= len(begin)
            ]

    def run(self, statements: tuple[Statement, Statement], begin: list[int]) -> Result:
        """Lets the sessions take their steps in the order `begin`, and then one after the other."""
        ids = self.set_up()
        for said in self.said:
            said.clear()
        self.controller.execute(
            "SELECT pg_advisory_lock(actor, number) FROM generate_series(1, 2) actor, generate_series(1, %s) number",
            [PAUSES],
        )
        try:
            running = [
                self.threads.submit(self._statement, number, statement, statement.params(ids))
                for number, statement in enumerate(statements)
            ]
            orders, open_choices = self._control(running, begin)
        finally:
            self.controller.execute("SELECT pg_advisory_unlock_all()")
        answers = [future.result() for future in running]
        steps = [iter(said) for said in self.said]
        told = [f"{'AB'[one]} ({statements[one].name}) {next(steps[one])}" for one in orders]
        return Result(answers, self.rows(), orders, told, open_choices)

    def _control(self, running: list[Future[Any]], begin: list[int]) -> tuple[list[int], list[int]]:
        at = [1, 1]  # the pause at which each session waits, or which it reaches next
        orders: list[int] = []
        open_choices: list[int] = []
        while ready := self._ready(running, at):
            choice = begin[len(orders)] if len(orders) < len(begin) else (orders[-1] if orders else 0)
            if choice not in ready:
                choice = ready[0]
            elif len(ready) > 1:
                open_choices.append(len(orders))
            orders.append(choice)
            self.controller.execute("SELECT pg_advisory_unlock(%s, %s)", [choice + 1, at[choice]])
            at[choice] += 1
        return orders, open_choices

    def _ready(self, running: list[Future[Any]], at: list[int]) -> list[int]:
        """The sessions that can take a step, once each has come to rest: at a pause, at the other's lock, or done."""
        pids = [session.info.backend_pid for session in self.sessions]
        while True:
            done = [future.done() for future in running]
            waits = dict(self.controller.execute(WAITS, {"pids": pids}).fetchall())
            paused = [waits.get(pid) == number for pid, number in zip(pids, at, strict=True)]
            blocked = [pid in waits and waits[pid] is None for pid in pids]
            if all(done):
                return []
            if any(paused) and all(
                done[one] or paused[one] or (blocked[one] and not done[1 - one]) for one in range(len(pids))
            ):
                return [one for one in range(len(pids)) if paused[one]]

    def _statement(self, number: int, statement: Statement, params: Params) -> Any:
        session = self.sessions[number]
        session.execute(
            "SELECT set_config('interleaving.actor', %s, false), set_config('interleaving.number', '0', false)",
            [str(number + 1)],
        )
        session.commit()
        try:
            cursor = session.execute(statement.sql, params)
            names = [column.name for column in cursor.description or []]
            answer = [
                {
                    name: value is not None if name in UNPREDICTABLE else value
                    for name, value in zip(names, row, strict=True)
                }
                for row in cursor.fetchall()
            ]
            session.execute("SELECT interleaving_pause('commits')")
            session.commit()
        except psycopg.Error as error:
            session.rollback()
            return type(error).__name__
        else:
            return answer


def _keep(said: list[str], notice: Diagnostic) -> None:
    said.append(notice.message_primary or "")

"""The quota against its model: any sequence of calls, switches and clocks gets the answers and figures of the model."""

import logging
import os
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from quota import models as rows
from quota.exceptions import (
    ConsumerInactive,
    ConsumerUnknown,
    CorrectionRefused,
    HarvestSwitchedOff,
    LedgerNotOpen,
    QuotaError,
    QuotaRefused,
    ReservationClosed,
    ReservationSpent,
    ShareNotPaid,
)
from quota.prices import RequestKind
from quota.selectors.status import check_ledger, get_status
from quota.services import corrections, reservations
from quota.services.corrections import IN_FLIGHT
from quota.services.reservations import LEASE, DispatchedCall
from quota.services.shares import dispatch_shared
from tests import tables
from tests.fixtures import stop_database_clock
from tests.quota.simulation.model import CLOSED, GUARD, Answer, Call, Consumer, Limits, Quota, midnight

pytestmark = [
    pytest.mark.slow,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("set_clock", "no_waits"),
]

EVENING = datetime(2026, 5, 5, 23, 40, tzinfo=UTC)
SAFETY_LIMIT, BUFFER = 40, 5
CONSUMERS = ["api", "cron", "thrifty", "capped"]
MOMENT = timedelta(microseconds=1)

consumers = st.sampled_from(CONSUMERS)
leases = st.sampled_from([timedelta(), LEASE, timedelta(days=1), timedelta(days=1)])
kinds = st.sampled_from([RequestKind.PAGE, RequestKind.BATCH, RequestKind.BATCH, RequestKind.FEED, RequestKind.KEY])
isbns_asked = st.integers(1, 9)
recent = st.integers(0, 5)
"""Which of the reservations or requests: 0 is the newest."""


def has_reservations(machine: "Simulation") -> bool:
    return bool(machine.model.reservations)


def has_requests(machine: "Simulation") -> bool:
    return bool(machine.requests)


def request(kind: RequestKind, isbns: int) -> dict[str, Any]:
    return {
        "kind": kind,
        "method": "GET",
        "path": "/key" if kind is RequestKind.KEY else "/x",
        "isbns_asked": isbns if kind is RequestKind.BATCH else None,
    }


WORDS: list[tuple[type[Exception], Callable[[Any], Answer]]] = [
    (QuotaRefused, lambda refused: ("refused", refused.limit, refused.asked, refused.free, refused.retry_at)),
    (ReservationSpent, lambda spent: ("spent", spent.missing)),
    (ReservationClosed, lambda _: CLOSED),
    (ShareNotPaid, lambda unpaid: ("unpaid", unpaid.payer, *in_words(unpaid.why))),
    (HarvestSwitchedOff, lambda _: ("off", "harvest_off")),
    (ConsumerInactive, lambda _: ("off", "inactive")),
    (ConsumerUnknown, lambda _: ("unknown",)),
    (LedgerNotOpen, lambda _: ("not open",)),
]


def in_words(error: Exception) -> Answer:
    """The words of the model for what a service raises."""
    return next((words(error) for kind, words in WORDS if isinstance(error, kind)), (repr(error),))


def answered(ask: Callable[[], Answer]) -> Answer:
    """What a service answers, in the words of the model."""
    try:
        return ask()
    except QuotaError as error:
        return in_words(error)


class Simulation(RuleBasedStateMachine):
    """Each rule asks the model and PostgreSQL the same. Afterwards, both must hold the same rows."""

    @initialize()
    def begin(self) -> None:
        stop_database_clock(EVENING)
        self.model = Quota(
            EVENING,
            Limits(SAFETY_LIMIT + BUFFER, BUFFER),
            {
                "api": Consumer(),
                "cron": Consumer(kind="cron", floor=10),
                "thrifty": Consumer(budget=8),
                "capped": Consumer(cap=5),
                "external": Consumer(),
            },
        )
        for slug, who in self.model.consumers.items():
            rows.Consumer.objects.create(
                slug=slug, kind=who.kind, floor=who.floor, daily_budget=who.budget, cap_per_operation=who.cap
            )
        rows.Switches.objects.create(
            batch_price="request", daily_limit=SAFETY_LIMIT + BUFFER, safety_buffer=BUFFER, max_rps=3
        )
        self.ids: list[uuid.UUID] = []  # of the reservations, by the numbers of the model
        self.requests: dict[int, DispatchedCall] = {}  # by their positions in the journal of the model

    def teardown(self) -> None:
        tables.empty()

    def both(self, expected: Answer, ask: Callable[[], Answer]) -> bool:
        """Asks PostgreSQL what the model has been asked. Whether the answer grants it."""
        assert answered(ask) == expected
        return expected[0] == "granted"

    def number(self, recent: int) -> int:
        """Of a reservation."""
        return max(0, len(self.model.reservations) - 1 - recent)

    def position(self, recent: int) -> int:
        """Of a request in the journal."""
        return sorted(self.requests)[max(0, len(self.requests) - 1 - recent)]

    # --- The life of a call

    @rule(consumer=st.sampled_from([*CONSUMERS, "nobody"]), calls=st.integers(1, 15), lease=leases)
    def reserve(self, consumer: str, calls: int, lease: timedelta) -> None:
        expected = self.model.reserve(consumer, calls, lease)

        def ask() -> Answer:
            self.ids.append(reservations.reserve(consumer=consumer, operation="x", calls=calls, lease=lease))
            return ("granted", calls, None, None)

        if self.both(expected, ask):
            self.within_limits(consumer)

    @rule(consumer=consumers, calls=st.integers(0, 9), kind=kinds, isbns=isbns_asked, lease=leases)
    def reserve_and_dispatch(self, consumer: str, calls: int, kind: RequestKind, isbns: int, lease: timedelta) -> None:
        passes = self.model.today in self.model.days and self.model.passes_limits(kind)
        expected = self.model.reserve(consumer, calls, lease, kind=kind, isbns=isbns)

        def ask() -> Answer:
            number, reserved, call = reservations.reserve_and_dispatch(
                consumer=consumer, operation="x", calls=calls, lease=lease, **request(kind, isbns)
            )
            self.ids.append(number)
            if isinstance(call, timedelta):
                return ("wait", reserved)
            self.requests[len(self.model.journal) - 1] = call
            return ("granted", reserved, call.price, call.send_at)

        if self.both(expected, ask) and not passes and expected[1] > 0:
            self.within_limits(consumer)

    @precondition(has_reservations)
    @rule(recent=recent, kind=kinds, isbns=isbns_asked, lease=leases)
    def dispatch(self, recent: int, kind: RequestKind, isbns: int, lease: timedelta) -> None:
        number = self.number(recent)
        passes = self.model.today in self.model.days and self.model.passes_limits(kind)
        expected = self.model.dispatch(number, kind, isbns, lease)

        def ask() -> Answer:
            call = reservations.dispatch(self.ids[number], lease=lease, **request(kind, isbns))
            if isinstance(call, timedelta):
                return ("wait",)
            self.requests[len(self.model.journal) - 1] = call
            return ("granted", call.price, call.send_at)

        if self.both(expected, ask) and self.model.enforce and not passes and expected[1] > 0:
            ledger = rows.DailyLedger.objects.get(pk=self.model.today)
            assert ledger.used <= ledger.safety_limit
            assert midnight(ledger.day) + GUARD <= expected[2] < midnight(ledger.day) + timedelta(days=1) - GUARD

    @precondition(has_reservations)
    @rule(first=recent, others=st.lists(st.tuples(recent | st.none(), isbns_asked), max_size=2), isbns=isbns_asked)
    def dispatch_shared(self, first: int, others: list[tuple[int | None, int]], isbns: int) -> None:
        payers: dict[int | None, int] = {self.number(first): isbns}
        for other, of_other in others:
            payers.setdefault(None if other is None else self.number(other), of_other)
        before = len(self.model.journal)
        expected = self.model.dispatch_shared(list(payers.items()), LEASE)

        def ask() -> Answer:
            call = dispatch_shared(
                [(None if number is None else self.ids[number], of_payer) for number, of_payer in payers.items()],
                method="POST",
                path="/books",
            )
            if isinstance(call, timedelta):
                return ("wait",)
            self.requests[before] = call
            return ("granted", call.price, call.send_at)

        self.both(expected, ask)

    @precondition(has_requests)
    @rule(recent=recent)
    def move(self, recent: int) -> None:
        position = self.position(recent)
        call = self.requests[position]
        expected = self.model.move(position, LEASE)

        def ask() -> Answer:
            assert reservations.move(call) is None
            return ("granted", call.send_at)

        self.both(expected, ask)

    @precondition(has_reservations)
    @rule(recent=recent, calls=st.integers(1, 9), lease=leases)
    def extend(self, recent: int, calls: int, lease: timedelta) -> None:
        number = self.number(recent)
        expected = self.model.extend(number, calls, lease)

        def ask() -> Answer:
            reservations.extend(self.ids[number], calls=calls, lease=lease)
            return ("granted",)

        if self.both(expected, ask):
            self.within_limits(self.model.reservations[number].consumer)

    @precondition(has_reservations)
    @rule(recent=recent, left=st.integers(0, 5))
    def shrink(self, recent: int, left: int) -> None:
        number = self.number(recent)
        expected = self.model.shrink(number, left)
        self.both(expected, lambda: ("back", reservations.shrink(self.ids[number], left=left)))

    @precondition(has_reservations)
    @rule(recent=recent)
    def settle(self, recent: int) -> None:
        number = self.number(recent)
        self.both(self.model.settle(number), lambda: ("back", reservations.settle(self.ids[number])))

    @precondition(lambda self: any(held.state == "open" for held in self.model.reservations))
    @rule()
    def expire(self) -> None:
        self.both(self.model.expire(), lambda: ("closed", reservations.expire()))

    # --- Corrections and the day

    @rule(calls=st.integers(1, 12))
    def increment(self, calls: int) -> None:
        expected = self.model.increment(calls)
        self.both(expected, lambda: (reservations.increment(calls), ("done",))[1])

    @precondition(lambda self: any(self.is_request(call) for call in self.model.journal))
    @rule(consumer=consumers, calls=st.integers(-5, 5).filter(bool))
    def adjust(self, consumer: str, calls: int) -> None:
        def ask() -> Answer:
            try:
                corrections.adjust(calls=calls, reason="x", made_with="a test", consumer=consumer)
            except CorrectionRefused:
                return ("too much",)
            return ("done",)

        self.both(self.model.adjust(consumer, calls), ask)

    @precondition(has_requests)
    @rule(recent=recent)
    def close_day(self, recent: int) -> None:
        position = self.position(recent)
        expected = self.model.close_day(position)
        self.both(expected, lambda: (reservations.close_day(self.requests[position], reason="x"), ("done",))[1])

    @precondition(lambda self: self.model.today in self.model.days)
    @rule()
    def reopen(self) -> None:
        def ask() -> Answer:
            try:
                corrections.reopen_day(reason="x", made_with="a test")
            except CorrectionRefused:
                return ("not closed",)
            return ("done",)

        self.both(self.model.reopen(), ask)

    @rule(drift=st.sampled_from([-6, -1, 0, 2, 7]), total=st.sampled_from([9, 30, 45, 60]))
    def reconcile(self, drift: int, total: int) -> None:
        """Only while requests are under way: otherwise the answers also measure the price of this question."""
        since = self.model.now - IN_FLIGHT
        if not any(self.is_request(call) and call.at > since for call in self.model.journal):
            return
        self.reserve_and_dispatch("api", 0, RequestKind.KEY, 1, LEASE)
        position = len(self.model.journal) - 1
        if position not in self.requests or self.model.journal[position].at != self.model.now:
            return
        spent = max(0, sum(self.model.days[self.model.today].used.values()) + drift)
        expected = self.model.reconcile(position, spent, total)

        def ask() -> Answer:
            seen = corrections.reconcile(self.requests[position], spent=spent, total=total, left=total - spent)
            return ("ignored",) if seen.ignored else ("compared", seen.raised_by, seen.day_change, seen.limit_to)

        self.both(expected, ask)

    @rule(daily_limit=st.integers(20, 60), buffer=st.integers(0, 15), today_too=st.booleans())
    def limits(self, daily_limit: int, buffer: int, today_too: bool) -> None:
        self.model.configured = Limits(daily_limit, buffer)
        rows.Switches.objects.update(daily_limit=daily_limit, safety_buffer=buffer)
        if today_too:
            self.both(self.model.apply_limits(), lambda: (corrections.apply_limits(), ("done",))[1])

    # --- Switches and the clock

    @rule(batch_price=st.sampled_from(["request", "isbn"]))
    def price_changes(self, batch_price: str) -> None:
        self.model.batch_price = batch_price
        rows.Switches.objects.update(batch_price=batch_price)

    @rule(harvest=st.booleans(), observe=st.sampled_from([False, False, False, True]))
    def switch(self, harvest: bool, observe: bool) -> None:
        self.model.harvest, self.model.enforce = harvest, not observe
        rows.Switches.objects.update(harvest_enabled=harvest, enforcement="observe" if observe else "enforce")

    @rule(
        consumer=consumers,
        active=st.sampled_from([True, True, False]),
        floor=st.integers(0, 12),
        budget=st.none() | st.integers(0, 12),
        cap=st.none() | st.integers(0, 6),
    )
    def consumer_changes(self, consumer: str, active: bool, floor: int, budget: int | None, cap: int | None) -> None:
        who = self.model.consumers[consumer]
        who.active, who.floor, who.budget, who.cap = active, floor, budget, cap
        rows.Consumer.objects.filter(slug=consumer).update(
            active=active, floor=floor, daily_budget=budget, cap_per_operation=cap
        )

    @rule(step=st.sampled_from([timedelta(seconds=0.1), timedelta(seconds=5), LEASE, timedelta(minutes=9, seconds=1)]))
    def time_passes(self, step: timedelta) -> None:
        self.set_clock(self.model.now + step)

    @rule(
        past_midnight=st.sampled_from(
            [-GUARD - MOMENT, -GUARD, -MOMENT, timedelta(), GUARD, timedelta(minutes=1), timedelta(hours=2)]
        )
    )
    def midnight(self, past_midnight: timedelta) -> None:
        self.set_clock(midnight(self.model.today + timedelta(days=1)) + past_midnight)

    @rule(step=st.sampled_from([timedelta(seconds=0.5), timedelta(seconds=3)]))
    def clock_steps_back(self, step: timedelta) -> None:
        """As after a failover to a machine whose clock is behind. It may step back over midnight."""
        self.set_clock(self.model.now - step)

    def set_clock(self, moment: datetime) -> None:
        self.model.now = moment
        stop_database_clock(moment)

    # --- What must hold

    def within_limits(self, consumer: str) -> None:
        """What was just granted fits into every limit, by the rows themselves."""
        if not self.model.enforce:
            return
        ledger = rows.DailyLedger.objects.get(pk=self.model.today)
        who = rows.Consumer.objects.get(slug=consumer)
        usage = rows.ConsumerUsage.objects.get(ledger=ledger, consumer=who)
        assert ledger.closed_at is None
        assert ledger.used + ledger.reserved + who.floor <= ledger.safety_limit
        assert who.daily_budget is None or usage.used + usage.reserved <= who.daily_budget
        newest = rows.Reservation.objects.get(pk=self.ids[-1])
        assert who.cap_per_operation is None or newest.consumer_id != who.pk or newest.calls <= who.cap_per_operation

    def is_request(self, call: Call) -> bool:
        return call.reservation is not None and not call.is_share and call.day == self.model.today

    @invariant()
    def the_status_and_the_nightly_check_agree(self) -> None:
        day = self.model.days.get(self.model.today)
        status = get_status()
        if day is not None:
            free = max(0, day.limits.safety_limit - day.total) if day.closed_at is None else 0
            assert (status.remaining, status.used) == (free, sum(day.used.values()))
            assert check_ledger(self.model.today) == []
        assert self.model.wrongs() == []

    @invariant()
    def postgresql_holds_what_the_model_holds(self) -> None:
        assert rows_in_postgresql(self.ids) == rows_of(self.model)


def rows_of(model: Quota) -> dict[str, Any]:
    requests: dict[date, int] = dict.fromkeys(model.days, 0)
    for call in model.journal:
        requests[call.day] += call.reservation is not None and not call.is_share
    return {
        "ledgers": {
            when: (
                day.limits.daily_limit,
                day.limits.safety_buffer,
                sum(day.used.values()),
                sum(day.reserved.values()),
                requests[when],
                day.closed_at,
                day.not_before,
            )
            for when, day in model.days.items()
        },
        "usages": {
            (when, slug): (day.used[slug], day.reserved[slug])
            for when, day in model.days.items()
            for slug in day.used
            if day.used[slug] or day.reserved[slug]
        },
        "reservations": [(held.calls, held.dispatched, held.state, held.expires_at) for held in model.reservations],
        "journal": [
            (call.day, call.consumer, call.calls, call.reservation, call.at, call.send_at) for call in model.journal
        ],
    }


def rows_in_postgresql(ids: list[uuid.UUID]) -> dict[str, Any]:
    numbers = {id_: number for number, id_ in enumerate(ids)}
    held = {
        row[0]: row[1:]
        for row in rows.Reservation.objects.values_list("id", "calls", "dispatched", "state", "expires_at")
    }
    return {
        "ledgers": {
            row[0]: row[1:]
            for row in rows.DailyLedger.objects.values_list(
                "day",
                "daily_limit",
                "safety_buffer",
                "used",
                "reserved",
                "requests",
                "closed_at",
                "next_dispatch_at",
            )
        },
        "usages": {
            (row[0], row[1]): row[2:]
            for row in rows.ConsumerUsage.objects.values_list("ledger", "consumer__slug", "used", "reserved")
            if row[2] or row[3]
        },
        "reservations": [held[id_] for id_ in ids],
        "journal": [
            (*row[:3], None if row[3] is None else numbers[row[3]], *row[4:])
            for row in rows.Call.objects.order_by("id").values_list(
                "ledger", "consumer__slug", "calls", "reservation", "dispatched_at", "send_at"
            )
        ],
    }


@pytest.mark.no_cover
def test_every_answer_and_every_row_is_that_of_the_model_after_any_history() -> None:
    logging.disable()  # thousands of lines, which pytest would keep
    try:
        run_state_machine_as_test(
            Simulation,
            settings=hypothesis_settings(
                max_examples=int(os.environ.get("HISTORIES", "25")),
                stateful_step_count=40,
                suppress_health_check=list(HealthCheck),
                database=None,
                phases=[Phase.generate, Phase.shrink],
            ),
        )
    finally:
        logging.disable(logging.NOTSET)

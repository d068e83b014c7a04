"""Guarantee 6 and the invariants, in any order of events: a state machine of operations and days."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest
from django.db.models import F
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule, run_state_machine_as_test

from quota.exceptions import QuotaRefused, ReservationClosed, ReservationSpent
from quota.models import Call, Consumer, ConsumerUsage, DailyLedger, Refusal, Reservation
from quota.prices import RequestKind
from quota.selectors.status import check_ledger
from quota.services import reservations
from quota.services.reservations import DispatchedCall
from tests.fixtures import SetClock

pytestmark = pytest.mark.slow

NOON = datetime(2026, 5, 5, 12, tzinfo=UTC)
FAR = timedelta(days=1)
SAFETY_LIMIT = 40


class Ledgers(RuleBasedStateMachine):
    set_clock: SetClock
    opened = Bundle("opened")

    def __init__(self) -> None:
        super().__init__()
        self.day = 0
        self.external: dict[int, int] = {}
        type(self).set_clock(NOON)
        for slug, options in {"api": {}, "cron": {"floor": 10}, "thrifty": {"daily_budget": 8}}.items():
            Consumer.objects.get_or_create(slug=slug, defaults=options)

    def teardown(self) -> None:
        Refusal.objects.all().delete()
        Call.objects.all().delete()
        Reservation.objects.all().delete()
        ConsumerUsage.objects.all().delete()
        DailyLedger.objects.all().delete()

    @rule(
        target=opened,
        consumer=st.sampled_from(["api", "cron", "thrifty"]),
        calls=st.integers(1, 15),
        lease=st.sampled_from([timedelta(), FAR]),
    )
    def reserve(self, consumer: str, calls: int, lease: timedelta) -> uuid.UUID | None:
        try:
            return reservations.reserve(consumer=consumer, operation="x", calls=calls, lease=lease)
        except QuotaRefused:
            return None

    @rule(reservation=opened)
    def dispatch(self, reservation: uuid.UUID | None) -> None:
        if reservation:
            try:
                call = reservations.dispatch(
                    reservation, kind=RequestKind.PAGE, method="GET", path="/author/x", lease=FAR
                )
            except (ReservationClosed, ReservationSpent, QuotaRefused):  # refused: calls made outside passed the limit
                return
            assert isinstance(call, DispatchedCall)

    @rule(reservation=opened, calls=st.integers(1, 3))
    def extend(self, reservation: uuid.UUID | None, calls: int) -> None:
        if reservation:
            try:
                reservations.extend(reservation, calls=calls)
            except (ReservationClosed, QuotaRefused):
                return

    @rule(reservation=consumes(opened))
    def settle(self, reservation: uuid.UUID | None) -> None:
        if reservation:
            reservations.settle(reservation)

    @rule()
    def expire(self) -> None:
        reservations.expire()

    @rule(calls=st.integers(1, 30))
    def increment(self, calls: int) -> None:
        reservations.increment(calls)
        self.external[self.day] = self.external.get(self.day, 0) + calls

    @rule()
    def next_day(self) -> None:
        self.day += 1
        type(self).set_clock(NOON + timedelta(days=self.day))

    @invariant()
    def every_ledger_agrees_with_its_rows(self) -> None:
        for day in DailyLedger.objects.values_list("day", flat=True):
            assert check_ledger(day) == []

    @invariant()
    def our_own_calls_never_pass_the_safety_limit(self) -> None:
        for ledger in DailyLedger.objects.annotate(total=F("used") + F("reserved")):
            external = self.external.get((ledger.day - NOON.date()).days, 0)
            assert ledger.total - external <= SAFETY_LIMIT

    @invariant()
    def the_budget_holds(self) -> None:
        assert not ConsumerUsage.objects.filter(consumer__slug="thrifty", used__gt=8 - F("reserved")).exists()


@pytest.mark.no_cover
@pytest.mark.django_db(transaction=True)
def test_the_ledger_agrees_with_its_rows_after_any_history(set_clock: SetClock, no_waits: None, settings) -> None:
    settings.QUOTA_DAILY_LIMIT, settings.QUOTA_SAFETY_BUFFER = SAFETY_LIMIT + 5, 5
    machine = type("Machine", (Ledgers,), {"set_clock": staticmethod(set_clock)})
    run_state_machine_as_test(
        machine,
        settings=hypothesis_settings(
            max_examples=25,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
        ),
    )

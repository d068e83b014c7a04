"""How things stand, as far as the rules ask."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog
from django.db.models import OuterRef, Q, Subquery, Sum
from kombu.exceptions import OperationalError as BrokerUnavailable

from alexandria.common.timeouts import within
from alexandria.monitoring.workers import workers_by_queue
from harvest.models import CronState, HarvestRun
from harvest.schedules import overdue
from quota.database import reachable
from quota.models import Call, Reservation
from quota.selectors.dashboard import ANSWERED, FAILED, calls_of_today
from quota.selectors.status import QuotaStatus, drift_of, get_status

log = structlog.get_logger(__name__)

ERROR_WINDOW = timedelta(minutes=15)
LEASE_WINDOW = timedelta(hours=1)
CRON_GRACE = timedelta(minutes=10)
"""How late a cron may begin: its worker may be busy with another."""

SECONDS_TO_ANSWER = (1.0, 9.0)
"""How long workers have to say which queues they consume; the second time only when a queue is missing by then,
as it is while workers are started anew."""
SECONDS_FOR_BROKER = 15.0


@dataclass(frozen=True)
class Facts:
    """All counts are calls unless their name says otherwise.

    `last_hour`: those sent since an hour ago, or since midnight. `queues`: the workers of each queue that is consumed;
    None when the broker is out of reach. `failed_crons`: the last run of each cron whose last run failed. `late_crons`:
    those that did not begin in time, and when they were due.
    """

    status: QuotaStatus
    last_hour: int = 0
    drift: int = 0
    answered: int = 0
    errors: Mapping[str, int] = field(default_factory=dict)
    leases_expired: int = 0
    queues: Mapping[str, Sequence[str]] | None = field(default_factory=dict)
    failed_crons: Sequence[HarvestRun] = ()
    late_crons: Mapping[str, datetime] = field(default_factory=dict)


def gather(*, queues: Sequence[str]) -> Facts:
    """How things stand now. `queues`: those that should have a worker. Raises QuotaUnavailable."""
    status = get_status()
    with reachable():
        outcomes = _outcomes(status)
        return Facts(
            status=status,
            last_hour=calls_of_today(status).last_hour,
            drift=drift_of(status.day),
            answered=sum(calls for outcome, calls in outcomes.items() if outcome in ANSWERED),
            errors={outcome: calls for outcome, calls in outcomes.items() if outcome in FAILED},
            leases_expired=_leases_expired(status),
            queues=consumed_queues(expected=queues),
            failed_crons=_failed_crons(),
            late_crons=overdue(now=status.now, grace=CRON_GRACE),
        )


def consumed_queues(*, expected: Sequence[str]) -> dict[str, list[str]] | None:
    """The names of the workers that consume each queue, by their own word; None when the broker is out of reach."""
    try:
        return within(SECONDS_FOR_BROKER, lambda: _ask_workers(expected))
    except (BrokerUnavailable, OSError) as error:
        log.warning("alerts.broker_unavailable", error=str(error))
        return None


def _ask_workers(expected: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for seconds in SECONDS_TO_ANSWER:
        found = workers_by_queue(expected=expected, seconds=seconds)
        if all(queue in found for queue in expected):
            break
    return found


def _outcomes(status: QuotaStatus) -> dict[str, int]:
    """The calls of the last ERROR_WINDOW by outcome."""
    since = status.now - ERROR_WINDOW
    recent = Call.objects.filter(ledger__in={status.day, since.date()}, dispatched_at__gt=since)
    return dict(recent.order_by().values_list("outcome").annotate(total=Sum("calls")))


def _leases_expired(status: QuotaStatus) -> int:
    """The reservations that nobody closed in time. None lives for longer than its day: the index is by creation."""
    since = status.now - LEASE_WINDOW
    recent = Reservation.objects.filter(state="expired", created_at__gt=since - timedelta(days=1))
    return recent.filter(closed_at__gt=since).count()


def _failed_crons() -> list[HarvestRun]:
    """By the last run that ended and was not skipped: a cron is well again when a run of it came off."""
    unfinished = Q(outcome__in=["running", "skipped"])
    last = HarvestRun.objects.filter(cron=OuterRef("name")).exclude(unfinished).values("pk")[:1]
    runs = CronState.objects.annotate(last=Subquery(last)).values_list("last", flat=True)
    return list(HarvestRun.objects.filter(pk__in=list(runs), outcome="failed").order_by("cron"))

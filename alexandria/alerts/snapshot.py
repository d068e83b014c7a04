"""The state of the system, as far as the alert rules need it. The rules are pure functions over a `Snapshot`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog
from django.db.models import OuterRef, Q, Subquery
from kombu.exceptions import OperationalError as BrokerUnavailable

from alexandria.common.timeouts import within
from alexandria.logins.throttling import failures_since
from alexandria.monitoring.workers import workers_by_queue
from enrichment.books.aside import answers_aside, bad_answers
from harvest.models import CronState, HarvestRun
from harvest.schedules import overdue
from quota.database import reachable
from quota.models import Call, Reservation
from quota.models.ledger import REQUESTS
from quota.selectors.dashboard import ANSWERED, FAILED, calls_of_today
from quota.selectors.prices import PriceChange, last_price_change
from quota.selectors.status import QuotaStatus, drift_of, effective_limits, get_status, sold_today

log = structlog.get_logger(__name__)

ERROR_WINDOW = timedelta(minutes=15)
LEASE_WINDOW = timedelta(hours=1)
LOG_IN_WINDOW = timedelta(hours=1)
CRON_GRACE = timedelta(minutes=10)
"""How late a cron may start. Its worker can be busy with another one."""

SECONDS_TO_ANSWER = (1.0, 9.0)
"""How long workers have to say which queues they consume. The second, longer question is asked only when a queue is
missing after the first one, for example while workers restart."""
SECONDS_FOR_BROKER = 15.0


@dataclass(frozen=True)
class Snapshot:
    """What the rules look at, read at one moment. Numbers are calls unless the name says something else."""

    status: QuotaStatus
    last_hour: int = 0
    """Calls spent in the last hour, or since midnight UTC."""
    drift: int = 0
    answered: int = 0
    """Requests of the ERROR_WINDOW that ISBNdb answered."""
    errors: Mapping[str, int] = field(default_factory=dict)
    """Requests of the ERROR_WINDOW that failed, by outcome."""
    leases_expired: int = 0
    """Reservations whose lease ran out in the LEASE_WINDOW."""
    queues: Mapping[str, Sequence[str]] | None = field(default_factory=dict)
    """The workers of each queue. None when Redis does not answer."""
    failed_crons: Sequence[HarvestRun] = ()
    """The last run of each cron whose last run failed."""
    price_change: PriceChange | None = None
    """The price of a batch that has changed within the last day."""
    sold: int | None = None
    """Calls a day that ISBNdb sells us, by its last answer of today that was used."""
    configured_limit: int = 0
    """Calls a day, by the switches or the environment."""
    failed_log_ins: int = 0
    """Log-ins that failed in the LOG_IN_WINDOW."""
    late_crons: Mapping[str, datetime] = field(default_factory=dict)
    """The crons that did not start within CRON_GRACE, and when they were due."""
    answers_aside: int = 0
    """Paid answers that wait in files until the database takes them."""
    bad_answers: int = 0
    """Paid answers in files that a person has to look at."""


def take_snapshot(*, expected_queues: Sequence[str]) -> Snapshot:
    """Reads the state of this moment. Raises QuotaUnavailable.

    `expected_queues`: the queues that need a worker. The workers are asked again when one of these is missing.
    """
    status = get_status()
    with reachable():
        outcomes = _recent_outcomes(status)
        return Snapshot(
            status=status,
            last_hour=calls_of_today(status).last_hour,
            drift=drift_of(status.day),
            price_change=last_price_change(status.now),
            sold=sold_today(status.day),
            configured_limit=effective_limits().daily_limit,
            answered=sum(requests for outcome, requests in outcomes.items() if outcome in ANSWERED),
            errors={outcome: requests for outcome, requests in outcomes.items() if outcome in FAILED},
            leases_expired=_leases_expired(status),
            queues=consumed_queues(expected=expected_queues),
            failed_crons=_failed_crons(),
            failed_log_ins=failures_since(status.now - LOG_IN_WINDOW),
            late_crons=overdue(now=status.now, grace=CRON_GRACE),
            answers_aside=answers_aside(),
            bad_answers=bad_answers(),
        )


def consumed_queues(*, expected: Sequence[str]) -> dict[str, list[str]] | None:
    """The names of the workers that consume each queue, as they report it. None when Redis does not answer."""
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


def _recent_outcomes(status: QuotaStatus) -> dict[str, int]:
    """The number of requests of the last ERROR_WINDOW, by outcome."""
    since = status.now - ERROR_WINDOW
    recent = Call.objects.filter(ledger__in={status.day, since.date()}, dispatched_at__gt=since)
    return dict(recent.order_by().values_list("outcome").annotate(requests=REQUESTS))


def _leases_expired(status: QuotaStatus) -> int:
    """Reservations that expired in the last LEASE_WINDOW.

    The filter on `created_at` is there for the index. It loses nothing: no reservation lives longer than its day.
    """
    since = status.now - LEASE_WINDOW
    recent = Reservation.objects.filter(state="expired", created_at__gt=since - timedelta(days=1))
    return recent.filter(closed_at__gt=since).count()


def _failed_crons() -> list[HarvestRun]:
    """Looks at the last run that ended and was not skipped. So a cron recovers with its next successful run."""
    unfinished = Q(outcome__in=["running", "skipped"])
    last = HarvestRun.objects.filter(cron=OuterRef("name")).exclude(unfinished).values("pk")[:1]
    runs = CronState.objects.annotate(last=Subquery(last)).values_list("last", flat=True)
    return list(HarvestRun.objects.filter(pk__in=list(runs), outcome="failed").order_by("cron"))

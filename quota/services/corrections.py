"""What puts a ledger right: a person's word, ISBNdb's own counter, other limits for the day that runs."""

from datetime import date, datetime, timedelta
from typing import Any

import structlog
from django.conf import settings
from django.db import IntegrityError
from django.db.models import Sum
from psycopg.types.json import Jsonb

from quota.database import ask, reachable
from quota.exceptions import ConsumerUnknown, CorrectionRefused, LedgerNotOpen
from quota.models import Adjustment, Call, Consumer, ConsumerUsage, DailyLedger, Reconciliation
from quota.selectors.status import Limits, begin_of, effective_limits, get_status
from quota.services.reservations import EXTERNAL, DispatchedCall

log = structlog.get_logger(__name__)

NOW_AND_TODAY = "SELECT moment, quota_day(moment) FROM (SELECT quota_now() AS moment OFFSET 0) AS clock"

MAX_ADJUSTED_CALLS = 1_000_000
"""Calls that one adjustment raises or lowers at the most: whoever types more has mistyped."""

LATE_RESET = timedelta(hours=1)
"""So long after midnight UTC a count of ISBNdb's may still be yesterday's."""

IN_FLIGHT = timedelta(minutes=5)
"""A call without an outcome that is older than this is not on its way any more."""

# What is put right and the record of it are one statement: there is never one without the other.
_ADJUST = """
    WITH correction AS (SELECT quota_correct(%s, %s, 'adjustment', %s, %s, %s) AS call)
    INSERT INTO quota_adjustment (day, consumer_id, calls, reason, made_by_id, made_with, created_at)
    SELECT %s, %s, %s, %s, %s, %s, quota_now() FROM correction WHERE call IS NOT NULL
    RETURNING id, created_at"""
_RECONCILE = """
    WITH held AS (SELECT * FROM quota_reconcile(%s, %s, %s, %s, %s, %s))
    INSERT INTO quota_reconciliation (
        day, call_id, answered_at, spent, total, in_flight, ignored, used, raised_by, active, key_charged
    )
    SELECT %s, %s, %s, %s, %s, %s, %s, used, raised,
        CASE WHEN raised > 0 THEN %s ELSE '{}' END, CASE WHEN used = %s THEN %s::boolean END
    FROM held RETURNING id"""


def adjust(
    *,
    calls: int,
    reason: str,
    made_with: str,
    made_by: Any = None,
    consumer: str = EXTERNAL,
    day: date | None = None,
) -> Adjustment:
    """Raises (or, below 0, lowers) what `consumer` (a slug) has used on `day` (today unless given), and records why.

    `made_by`: the user, where there is one; `made_with`: the admin, or the command and who ran it. The limits do not
    refuse it: what was spent is spent.

    Raises CorrectionRefused (no calls, more than MAX_ADJUSTED_CALLS, no reason, more taken back than the consumer has
    used), ConsumerUnknown, LedgerNotOpen and QuotaUnavailable.
    """
    day = day or get_status().day
    payer = _payer(consumer, calls, reason)
    reason = reason.strip()
    correction = [day, payer.pk, calls, Call.Outcome.ADJUSTED, f"{reason} ({made_with})"[:1000]]
    record = [day, payer.pk, calls, reason, made_by and made_by.pk, made_with]
    try:
        row = ask(_ADJUST, [*correction, *record])
    except IntegrityError as error:
        raise CorrectionRefused(_too_much_taken_back(day, consumer, calls)) from error
    if not row:
        raise _not_open(day)
    adjustment = Adjustment(
        pk=row[0],
        created_at=row[1],
        ledger_id=day,
        consumer=payer,
        calls=calls,
        reason=reason,
        made_by=made_by,
        made_with=made_with,
    )
    log.warning("quota.adjusted", day=str(day), calls=calls, consumer=consumer, reason=reason, made_with=made_with)
    return adjustment


def would_adjust(*, calls: int, reason: str, consumer: str = EXTERNAL, day: date | None = None) -> DailyLedger:
    """The day's ledger as `adjust` would leave it now, not saved; raises as `adjust` does. No ledger is changed."""
    day = day or get_status().day
    payer = _payer(consumer, calls, reason)
    with reachable():
        ledger = DailyLedger.objects.filter(pk=day).first()
        usage = ConsumerUsage.objects.filter(ledger=day, consumer=payer).first()
        if ledger is None:
            raise _not_open(day)
        if (usage.used if usage else 0) + calls < 0:
            raise CorrectionRefused(_too_much_taken_back(day, consumer, calls))
    ledger.used += calls
    return ledger


def reconcile(call: DispatchedCall, *, spent: int, total: int) -> Reconciliation:
    """Holds what ISBNdb's own counter says (`spent` of `total` calls, answered to `call`) against our ledger.

    When it is certainly higher, ours is raised to it; ours is never lowered. Calls of ours that were dispatched after
    the answer are left out of the comparison, and all that were dispatched before count as arrived, so that no call
    on its way looks like drift. An answer that may be from before ISBNdb's reset changes nothing. That ISBNdb sells
    less than our daily limit is an error in the log: our own safety limit may be more than there is.
    """
    with reachable():
        answered_at, today = ask(NOW_AND_TODAY)
        external, _ = Consumer.objects.get_or_create(slug=EXTERNAL)
        before = Reconciliation.objects.filter(ledger=call.day, ignored="").first()
        in_flight = (
            Call.objects.filter(
                ledger=call.day, outcome=Call.Outcome.UNKNOWN, dispatched_at__gt=answered_at - IN_FLIGHT
            )
            .exclude(pk=call.id)
            .count()
        )
        active = _active_since(before, call)
    ignored = _why_ignored(call, spent, answered_at, today)
    charged_at, key_charged = (None, None) if ignored else _key_charged(before, spent, in_flight)
    note = "ISBNdb's own counter is higher"
    held = [call.id, call.day, None if ignored else spent, answered_at, external.pk, note]
    record = [call.day, call.id, answered_at, spent, total, in_flight, ignored]
    [written] = ask(_RECONCILE, [*held, *record, Jsonb(active), charged_at, key_charged])
    with reachable():
        result = Reconciliation.objects.select_related("ledger").get(pk=written)
        drift_today = Reconciliation.objects.filter(ledger=call.day).aggregate(calls=Sum("raised_by"))["calls"]
    say = log.error if drift_today >= settings.QUOTA_DRIFT_ALERT else log.warning
    if result.raised_by:
        say("quota.drift", day=str(call.day), calls=result.raised_by, today=drift_today, active=result.active)
    if result.missing:
        log.error("quota.sold_less", day=str(call.day), sold=total, daily_limit=result.ledger.daily_limit)
    log.info("quota.reconciled", spent=spent, used=result.used, in_flight=in_flight, ignored=ignored)
    return result


def apply_limits() -> Limits:
    """Gives today's ledger the limits in force now. What is used stays used, even past a limit that is lower.

    Raises LedgerNotOpen (it will be opened with these limits anyway) and QuotaUnavailable.
    """
    limits = effective_limits()
    day = ask("SELECT quota_apply_limits(%s, %s, %s)", [limits.daily_limit, limits.safety_buffer, limits.max_rps])[0]
    if day is None:
        raise LedgerNotOpen("Today's ledger is not open yet: it will be opened with these limits.")
    log.warning("quota.limits_applied", day=str(day), daily_limit=limits.daily_limit, buffer=limits.safety_buffer)
    return limits


def _payer(consumer: str, calls: int, reason: str) -> Consumer:
    """To whom the calls are put down, when they and the reason make sense whatever the day. Raises as `adjust` does."""
    if not 1 <= abs(calls) <= MAX_ADJUSTED_CALLS:
        raise CorrectionRefused(f"calls must be from 1 to {MAX_ADJUSTED_CALLS:,}, or as many below 0.")
    if not reason.strip():
        raise CorrectionRefused("reason must say why, for whoever reads the ledger later.")
    with reachable():
        if consumer == EXTERNAL:
            Consumer.objects.get_or_create(slug=EXTERNAL)
        payer = Consumer.objects.filter(slug=consumer).first()
    if payer is None:
        raise ConsumerUnknown(f"There is no consumer {consumer!r}.")
    return payer


def _not_open(day: date) -> LedgerNotOpen:
    return LedgerNotOpen(f"{day} has no ledger: nothing was spent on that day, or it is not here yet.")


def _too_much_taken_back(day: date, consumer: str, calls: int) -> str:
    usages = dict(ConsumerUsage.objects.filter(ledger=day, used__gt=0).values_list("consumer__slug", "used"))
    can = ", ".join(f"{slug} {used:,}" for slug, used in sorted(usages.items())) or "nobody has used any"
    return f"{consumer} has not used {-calls:,} calls on {day}. Used on that day: {can}. Name a consumer that has."


def _why_ignored(call: DispatchedCall, spent: int, answered_at: datetime, today: date) -> str:
    """Why ISBNdb's count says nothing of the call's day; "" when it does.

    Its reset may come later than midnight by our clock. A count that is higher than ours is taken for today's within
    the first hour only when it is lower than the last that we have seen of yesterday, or today's have begun to come.
    """
    if today != call.day:
        return "The day ended while ISBNdb was asked."
    if answered_at - begin_of(today) >= LATE_RESET:
        return ""
    with reachable():
        seen_today = Reconciliation.objects.filter(ledger=today, ignored="").exists()
        yesterday = Reconciliation.objects.filter(ledger=today - timedelta(days=1), ignored="").first()
    if seen_today or spent <= get_status().used or (yesterday and spent < yesterday.spent):
        return ""
    return "It may be yesterday's count: ISBNdb may not have begun the new day."


def _key_charged(before: Reconciliation | None, spent: int, in_flight: int) -> tuple[int | None, bool | None]:
    """Whether ISBNdb counted this GET /key, and our count at which that holds: nothing else was sent since `before`."""
    if before is None or in_flight or before.in_flight:
        return None, None
    return before.used + before.raised_by + 1, {0: False, 1: True}.get(spent - before.spent)


def _active_since(before: Reconciliation | None, call: DispatchedCall) -> dict[str, int]:
    since = before.call_id if before and before.call_id else 0
    rows = Call.objects.filter(ledger=call.day, pk__gt=since, reservation__isnull=False).exclude(pk=call.id)
    return dict(rows.order_by().values_list("consumer__slug").annotate(total=Sum("calls")))

"""Corrections of a day: by a person, by ISBNdb's own counter, and other limits for the current day."""

from dataclasses import asdict
from datetime import date, datetime, timedelta
from typing import Any

import structlog
from django.conf import settings
from django.db import IntegrityError
from django.db.models import Sum
from psycopg.types.json import Jsonb

from alexandria.common.text import counted
from quota.database import ask, reachable
from quota.exceptions import ConsumerUnknown, CorrectionRefused, LedgerNotOpen
from quota.models import Adjustment, Call, Consumer, ConsumerUsage, DailyLedger, DayLimits, Reconciliation, Reopening
from quota.prices import BatchPrice
from quota.selectors.status import begin_of, drift_of, effective_limits, get_status
from quota.services.reservations import EXTERNAL, DispatchedCall

log = structlog.get_logger(__name__)

NOW_AND_TODAY = "SELECT moment, quota_day(moment) FROM (SELECT quota_now() AS moment OFFSET 0) AS clock"

MAX_ADJUSTED_CALLS = 1_000_000
"""Maximum number of calls that one adjustment adds or takes back. A larger figure is a typing mistake."""

LATE_RESET = timedelta(hours=1)
"""For so long after midnight UTC, ISBNdb may still report yesterday's count."""

IN_FLIGHT = timedelta(minutes=5)
"""A request without an outcome that is older than this is no longer under way."""

KEY_PRICE_APART = timedelta(minutes=1)
"""Two equal answers so far apart, with nothing else sent in between, show that `GET /key` is free: counters may lag.

A probe too waits a minute for a counter that lags."""

# The correction and its record are one statement: there is never one without the other.
_ADJUST = """
    WITH correction AS (
        SELECT quota_correct(
            p_day => %(day)s, p_consumer => %(consumer)s, p_operation => 'adjustment', p_calls => %(calls)s,
            p_outcome => %(outcome)s, p_note => %(note)s
        ) AS call
    )
    INSERT INTO quota_adjustment (day, consumer_id, calls, reason, made_by_id, made_with, created_at)
    SELECT %(day)s, %(consumer)s, %(calls)s, %(reason)s, %(made_by)s, %(made_with)s, quota_now()
    FROM correction WHERE call IS NOT NULL
    RETURNING id, created_at"""
_RECONCILE = """
    WITH compared AS (
        SELECT * FROM quota_reconcile(
            p_call => %(call)s, p_day => %(day)s, p_spent => %(compared_spent)s, p_total => %(total)s,
            p_left => %(compared_left)s, p_answered_at => %(answered_at)s, p_consumer => %(consumer)s,
            p_note => %(note)s, p_verdict => %(verdict)s, p_in_flight => %(in_flight)s, p_apart => %(apart)s,
            p_daily_limit => %(daily_limit)s, p_safety_buffer => %(safety_buffer)s
        )
    )
    INSERT INTO quota_reconciliation (
        day, call_id, answered_at, spent, total, "left", in_flight, ignored, used, raised_by, day_change, active,
        price_seen, limit_from, limit_to
    )
    SELECT %(day)s, %(call)s, %(answered_at)s, %(spent)s, %(total)s, %(left)s, %(in_flight)s, %(ignored)s, used, raised,
        day_change, CASE WHEN raised > 0 THEN %(active)s ELSE '{}' END, price_seen, limit_from, limit_to
    FROM compared RETURNING id"""
_TAKE_FIGURE = """
    SELECT quota_take_figure(
        p_reconciliation => %(reconciliation)s, p_reason => %(reason)s, p_made_by => %(made_by)s,
        p_made_with => %(made_with)s
    )"""
_REOPEN = """
    SELECT quota_reopen_day(
        p_day => quota_day(quota_now()), p_reason => %(reason)s, p_made_by => %(made_by)s, p_made_with => %(made_with)s
    )"""
_APPLY_LIMITS = """
    SELECT quota_apply_limits(
        p_daily_limit => %(daily_limit)s, p_safety_buffer => %(safety_buffer)s, p_max_rps => %(max_rps)s
    )"""


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

    `made_by`: the user, where there is one. `made_with`: the admin, or the command and who ran it. No limit refuses a
    correction: what was spent is spent.

    Raises CorrectionRefused (no calls, more than MAX_ADJUSTED_CALLS, no reason, more taken back than the consumer has
    used), ConsumerUnknown, LedgerNotOpen and QuotaUnavailable.
    """
    day = day or get_status().day
    payer = _payer(consumer, calls, reason)
    reason = reason.strip()
    params = {
        "day": day,
        "consumer": payer.pk,
        "calls": calls,
        "outcome": Call.Outcome.ADJUSTED,
        "note": f"{reason} ({made_with})"[:1000],
        "reason": reason,
        "made_by": made_by and made_by.pk,
        "made_with": made_with,
    }
    try:
        row = ask(_ADJUST, params)
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
    """The day's ledger as `adjust` would leave it now, not saved. Raises what `adjust` raises. Changes no ledger."""
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


def reopen_day(*, reason: str, made_with: str, made_by: Any = None) -> Reopening:
    """Opens today again after it was closed, and records why. `made_by`, `made_with`: as in `adjust`.

    If ISBNdb has nothing left, its next answer closes the day again. Raises CorrectionRefused (today is not closed, or
    no reason) and QuotaUnavailable.
    """
    reason = _given(reason)
    params = {"reason": reason, "made_by": made_by and made_by.pk, "made_with": made_with}
    [written] = ask(_REOPEN, params)
    if written is None:
        raise CorrectionRefused("Today is not closed, so there is nothing to open.")
    with reachable():
        reopening = Reopening.objects.get(pk=written)
    log.warning("quota.day_reopened", day=str(reopening.ledger_id), reason=reason, made_with=made_with)
    return reopening


def reconcile(call: DispatchedCall, *, spent: int, total: int, left: int) -> Reconciliation:
    """Compares ISBNdb's own counter (`spent` of `total` calls, `left`; the answer to `call`) with our ledger.

    When ISBNdb's count is certainly higher, ours is raised to it. Ours is never lowered. Calls that were dispatched
    after the answer are left out of the comparison. All calls that were dispatched before it count as arrived, so that
    a call under way never looks like drift. An answer that may be from before ISBNdb's reset changes nothing.

    Drift that batches at the higher price explain switches to that price at once. If ISBNdb sells less than our daily
    limit, today's ledger gets ISBNdb's limit; when it sells more again, the ledger gets that, up to the configured one.

    When nothing is left, the day is closed, however the calls were spent. When calls are left, a closed day is opened
    again; `quota_reconcile` in the SQL functions has the conditions.
    """
    with reachable():
        answered_at, today = ask(NOW_AND_TODAY)
        external, _ = Consumer.objects.get_or_create(slug=EXTERNAL)
        before = Reconciliation.objects.filter(ledger=call.day, ignored="").first()
        unknown = Call.objects.filter(
            ledger=call.day,
            share_of=None,
            outcome=Call.Outcome.UNKNOWN,
            dispatched_at__gt=answered_at - IN_FLIGHT,
        )
        in_flight = unknown.exclude(pk=call.id).count()
        active = _active_since(before, call)
    ignored = _why_ignored(call, spent, answered_at, today)
    params = {
        "call": call.id,
        "day": call.day,
        "answered_at": answered_at,
        "consumer": external.pk,
        "note": "ISBNdb's own counter is higher",
        "verdict": _verdict(spent, total, left),
        "compared_spent": None if ignored else spent,
        "compared_left": None if ignored else left,
        "spent": spent,
        "total": total,
        "left": left,
        "in_flight": in_flight,
        "ignored": ignored,
        "active": Jsonb(active),
        "apart": KEY_PRICE_APART.total_seconds(),
    } | asdict(effective_limits())
    [written] = ask(_RECONCILE, params)
    with reachable():
        result = Reconciliation.objects.select_related("ledger").get(pk=written)
    drift_today = drift_of(call.day)
    report = log.error if drift_today >= settings.QUOTA_DRIFT_ALERT else log.warning
    if result.raised_by:
        report("quota.drift", day=str(call.day), calls=result.raised_by, today=drift_today, active=result.active)
    if result.limit_to is not None:
        report = log.error if result.missing else log.warning
        event = "quota.sold_less" if result.missing else "quota.sold_more"
        report(event, day=str(call.day), sold=total, limit_from=result.limit_from, limit_to=result.limit_to)
    if result.price_seen:
        report = log.error if result.price_seen == BatchPrice.ISBN else log.warning
        report("quota.price_seen", day=str(call.day), batch_price=result.price_seen, spent=spent, used=result.used)
    if result.day_change:
        report = log.error if result.day_change == Reconciliation.DayChange.CLOSED else log.warning
        report(f"quota.day_{result.day_change}", day=str(call.day), call=call.id, reason=_verdict(spent, total, left))
    log.info("quota.reconciled", spent=spent, used=result.used, left=left, in_flight=in_flight, ignored=ignored)
    return result


def take_figure(reconciliation: Reconciliation, *, reason: str, made_with: str, made_by: Any = None) -> int:
    """Lowers our count of today to ISBNdb's, as that answer has seen it, and returns how many calls were taken back.

    The cause may be requests that ISBNdb did not charge, or a batch price that is lower than the one we charge. In the
    second case (`price_seen`) that price is in force from now on. `made_by`, `made_with`: as in `adjust`.

    Raises CorrectionRefused (not the newest answer of today, something was under way, the count was corrected since,
    ours is not higher, or no reason) and QuotaUnavailable.
    """
    params = {
        "reconciliation": reconciliation.pk,
        "reason": _given(reason),
        "made_by": made_by and made_by.pk,
        "made_with": made_with,
    }
    [calls] = ask(_TAKE_FIGURE, params)
    if not calls:
        raise CorrectionRefused(
            "Only today's newest answer can be taken, if ours is higher, nothing was under way, and our count was not "
            "corrected since. Ask ISBNdb again: manage.py isbndb_key."
        )
    log.warning("quota.figure_taken", day=str(reconciliation.ledger_id), calls=-calls, reason=reason)
    return int(calls)


def apply_limits() -> DayLimits:
    """Gives today's ledger the limits in force now. What is used stays used, even if the new limit is lower.

    Raises LedgerNotOpen (the ledger will open with these limits anyway) and QuotaUnavailable.
    """
    limits = effective_limits()
    [day] = ask(_APPLY_LIMITS, asdict(limits))
    if day is None:
        raise LedgerNotOpen("Today's ledger is not open yet. It will open with these limits.")
    log.warning("quota.limits_applied", day=str(day), daily_limit=limits.daily_limit, buffer=limits.safety_buffer)
    return limits


def _payer(consumer: str, calls: int, reason: str) -> Consumer:
    """The consumer to charge, when calls and reason make sense on any day. Raises what `adjust` raises."""
    if not 1 <= abs(calls) <= MAX_ADJUSTED_CALLS:
        raise CorrectionRefused(
            f"calls must be from 1 to {MAX_ADJUSTED_CALLS:,}, or from -1 to -{MAX_ADJUSTED_CALLS:,}."
        )
    _given(reason)
    with reachable():
        if consumer == EXTERNAL:
            Consumer.objects.get_or_create(slug=EXTERNAL)
        payer = Consumer.objects.filter(slug=consumer).first()
    if payer is None:
        raise ConsumerUnknown(f"There is no consumer {consumer!r}.")
    return payer


def _given(reason: str) -> str:
    """The reason without white space around it. Raises CorrectionRefused when it is empty."""
    if not reason.strip():
        raise CorrectionRefused("reason must not be empty. Say why, for people who read the ledger later.")
    return reason.strip()


def _not_open(day: date) -> LedgerNotOpen:
    return LedgerNotOpen(f"{day} has no ledger: nothing was sent on that day, or the day is in the future.")


def _too_much_taken_back(day: date, consumer: str, calls: int) -> str:
    usages = dict(ConsumerUsage.objects.filter(ledger=day, used__gt=0).values_list("consumer__slug", "used"))
    used = ", ".join(f"{slug} {used:,}" for slug, used in sorted(usages.items())) or "no calls"
    taken = counted(-calls, "call")
    return f"{consumer} has not used {taken} on {day}. Used on that day: {used}. Name a consumer with enough."


def _why_ignored(call: DispatchedCall, spent: int, answered_at: datetime, today: date) -> str:
    """Why ISBNdb's count is not used for the call's day; "" when it is.

    ISBNdb's reset may come later than midnight by our clock. Within the first hour, a count that is higher than ours is
    taken for today's only in two cases: it is lower than the last count of yesterday, or an earlier count of today was
    used.
    """
    if today != call.day:
        return "The day ended before ISBNdb answered."
    if answered_at - begin_of(today) >= LATE_RESET:
        return ""
    with reachable():
        seen_today = Reconciliation.objects.filter(ledger=today, ignored="").exists()
        yesterday = Reconciliation.objects.filter(ledger=today - timedelta(days=1), ignored="").first()
    if seen_today or spent <= get_status().used or (yesterday and spent < yesterday.spent):
        return ""
    return "It may be yesterday's count: ISBNdb may not have started the new day yet."


def _verdict(spent: int, total: int, left: int) -> str:
    """What ISBNdb's counter says about the day, as the reason for closing it or opening it again."""
    if left <= 0:
        return f"ISBNdb's own counter says that nothing is left: {spent:,} of {total:,} calls are spent."
    return f"ISBNdb's own counter says that {left:,} of {total:,} calls are left."


def _active_since(before: Reconciliation | None, call: DispatchedCall) -> dict[str, int]:
    since = before.call_id if before and before.call_id else 0
    rows = Call.objects.filter(ledger=call.day, pk__gt=since, reservation__isnull=False).exclude(pk=call.id)
    return dict(rows.order_by().values_list("consumer__slug").annotate(total=Sum("calls")))

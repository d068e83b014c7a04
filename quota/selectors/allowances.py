"""What each consumer may spend today, and which limit applies. The SQL function `quota_allowance` computes it."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from quota.database import ask_for_all, reachable
from quota.exceptions import ConsumerUnknown, QuotaRefused
from quota.limits import LIMITS, SWITCHED_OFF
from quota.models import Consumer, Refusal
from quota.selectors.consumer_limits import ConsumerLimit, consumer_limits
from quota.selectors.status import QuotaStatus, get_status

LAST_REFUSALS = 10

_ALLOWANCES = """
    SELECT consumer.id, coalesce(usage.used, 0), coalesce(usage.reserved, 0), coalesce(usage.requests, 0), switched_off,
        CASE WHEN harvest.off IS NULL THEN free ELSE 0 END, coalesce(harvest.off, broken_limit),
        CASE WHEN switched_off IS NULL THEN free_today ELSE 0 END, free_if_released, free_a_day
    FROM quota_consumer AS consumer
    LEFT JOIN quota_consumerusage AS usage ON usage.consumer_id = consumer.id AND usage.day = %(day)s
    CROSS JOIN LATERAL quota_allowance(
        p_consumer => consumer, p_usage => usage, p_day => %(day)s, p_now => %(now)s, p_day_closed => %(day_closed)s,
        p_safety_limit => %(safety_limit)s, p_used => %(used)s, p_reserved => %(reserved)s
    )
    CROSS JOIN LATERAL (SELECT quota_switched_off(p_active => true, p_kind => consumer.kind) AS off) AS harvest
    WHERE consumer.id = ANY (%(consumers)s)"""


@dataclass(frozen=True)
class Allowance:
    """What one consumer may spend today. The figures are calls, except `requests`.

    The limits are those in force when they are enforced. While they are only observed nothing is refused, and the
    figures still show what they would refuse.
    """

    consumer: Consumer
    used: int
    reserved: int
    requests: int
    """Dispatched today."""
    switched_off: str | None
    """The switch (`quota.limits.SWITCHED_OFF`) that refuses every call, also when limits are only observed."""
    free: int
    """What one operation can reserve now. For a consumer that is switched off: what it could if it were on."""
    limited_by: str
    """The limit that would refuse one call more, or "harvest_off" (a name in `quota.limits.REASONS`)."""
    free_today: int
    """What the consumer can reserve today, in any number of operations."""
    free_if_released: int
    """As `free_today`, if every reserved call went back."""
    free_a_day: int
    """What a day on which nothing is used or reserved grants."""
    quota: QuotaStatus
    refusals: list[Refusal] = field(default_factory=list)
    limits: list[ConsumerLimit] = field(default_factory=list)
    """The limits of the consumer that are not calls."""

    @property
    def refused_by(self) -> str:
        """The name of the limit or switch that would refuse a single call now; "" when it would be granted."""
        if self.switched_off:
            return self.switched_off
        return "" if self.free > 0 or self.quota.enforcement == "observe" else self.limited_by

    @property
    def why_refused(self) -> str:
        """The same in words. They hold no figures of the day, so that the same reason always has the same words."""
        slug = self.consumer.slug
        if self.switched_off:
            return SWITCHED_OFF[self.switched_off].about(slug)
        if not self.refused_by:
            return ""
        limit = LIMITS[self.limited_by]
        if not limit.consumer_field:
            return limit.about(slug)
        figure = getattr(self.consumer, limit.consumer_field)
        return f"{limit.about(slug)} Its {limit.consumer_field.replace('_', ' ')} is {figure:,}."


def allowances(consumers: Iterable[Consumer], *, status: QuotaStatus | None = None) -> dict[int, Allowance]:
    """What each of the consumers may spend today, by its primary key, without `refusals` and `limits`.

    It takes the same two queries for one consumer as for all. `status`: today's, where it is known already.
    Raises QuotaUnavailable.
    """
    status = status or get_status()
    by_id = {consumer.pk: consumer for consumer in consumers}
    params = {
        "consumers": list(by_id),
        "day": status.day,
        "now": status.now,
        "day_closed": status.closed_reason is not None,
        "safety_limit": status.safety_limit,
        "used": status.used,
        "reserved": status.reserved,
    }
    return {
        pk: Allowance(by_id[pk], *figures, quota=status)  # type: ignore[misc]  # in the order of the statement
        for pk, *figures in ask_for_all(_ALLOWANCES, params)
    }


def allowance_of(consumer: str, status: QuotaStatus) -> Allowance:
    """What the consumer (a slug) may spend today. Raises ConsumerUnknown and QuotaUnavailable."""
    with reachable():
        known = Consumer.objects.filter(slug=consumer).first()
    if known is None:
        raise ConsumerUnknown(f"There is no consumer {consumer!r}.")
    return allowances([known], status=status)[known.pk]


def get_allowance(consumer: Consumer) -> Allowance:
    """What the consumer may spend today, its last refusals, newest first, and its limits. Raises QuotaUnavailable."""
    allowance, limits = allowances([consumer])[consumer.pk], consumer_limits(consumer)
    with reachable():
        refusals = list(Refusal.objects.filter(consumer=consumer)[:LAST_REFUSALS])
    return replace(allowance, refusals=refusals, limits=limits)


def why_no_call(consumer: str, status: QuotaStatus) -> str:
    """Why a single call of the consumer (a slug) would be refused now, in words; "" when it would be granted.

    Raises ConsumerUnknown and QuotaUnavailable.
    """
    return allowance_of(consumer, status).why_refused


def may_come_free(refusal: QuotaRefused, *, consumer: str) -> bool:
    """Whether the consumer (a slug) was refused only because of reserved calls, which can go back at any moment.

    Raises ConsumerUnknown and QuotaUnavailable.
    """
    if not LIMITS[refusal.limit].may_come_free:
        return False
    return refusal.asked <= allowance_of(consumer, get_status()).free_if_released

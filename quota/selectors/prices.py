"""What requests cost: the prices in force, and what they mean for batches. SQL computes every price (`quota_price`)."""

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings

from alexandria.common.text import as_people_read
from quota.database import ask, reachable
from quota.models import Call, PriceMeasurement, Switches
from quota.prices import BatchPrice, RequestKind
from quota.selectors.allowances import allowance_of
from quota.selectors.status import get_status

MAX_UNSETTLED_PROBES = 3
"""After so many probes in a row that settled nothing, the next one waits for PROBE_PAUSE."""

PROBE_PAUSE = timedelta(minutes=10)

PRICE_IS_NEWS = timedelta(days=1)
"""For so long at least, the alert about another price stays open."""

_PRICES = """
    SELECT batch_price, coalesce((SELECT nullif(batch_price, '') FROM quota_switches), '')
    FROM quota_prices(p_default => %(batch_price)s)"""
_PRICE = """
    SELECT quota_price(
        p_kind => %(kind)s, p_isbns => %(isbns)s, p_batch_price => batch_price, p_key_price => key_price
    ) FROM quota_prices(p_default => %(batch_price)s)"""
# A batch that costs nothing does not exist, so full batches and a rest are all that has a price.
_COST_OF_ISBNS = """
    SELECT %(full)s * quota_price(
        p_kind => %(kind)s, p_isbns => %(size)s, p_batch_price => batch_price, p_key_price => key_price
    ) + CASE WHEN %(rest)s > 0 THEN quota_price(
        p_kind => %(kind)s, p_isbns => %(rest)s, p_batch_price => batch_price, p_key_price => key_price
    ) ELSE 0 END
    FROM quota_prices(p_default => %(batch_price)s)"""
_LARGEST_BATCH = """
    SELECT max(isbns) FROM quota_prices(p_default => %(batch_price)s), generate_series(1, %(size)s) AS isbns
    WHERE quota_price(
        p_kind => %(kind)s, p_isbns => isbns, p_batch_price => batch_price, p_key_price => key_price
    ) <= %(calls)s"""


@dataclass(frozen=True)
class Prices:
    """The prices in force."""

    batch_price: BatchPrice
    chosen_by: str
    """Where the price of a batch comes from: "measurement", "switch" or "setting" (ISBNDB_BATCH_PRICE)."""
    since: datetime | None
    """Since when a batch has this price. None while it is unknown, and when the setting says it."""
    key_price: int | None
    """Calls for `GET /key`, as measured. None before; then 1 is charged."""

    @property
    def in_words(self) -> str:
        """What a batch costs and how we know, in a sentence for people."""
        if self.batch_price == BatchPrice.UNKNOWN:
            return "What ISBNdb charges for a batch is not measured yet. Until then, it costs 1 call for each ISBN."
        price = "1 call" if self.batch_price == BatchPrice.REQUEST else "1 call for each ISBN"
        chosen_by = {"measurement": "measured", "switch": "set by the switches", "setting": "set by ISBNDB_BATCH_PRICE"}
        since = f", since {as_people_read(self.since)}" if self.since else ""
        return f"A batch costs {price} ({chosen_by[self.chosen_by]}{since})."


def get_prices() -> Prices:
    """The prices in force now. Raises QuotaUnavailable."""
    batch_price, switch = ask(_PRICES, {"batch_price": settings.ISBNDB_BATCH_PRICE})
    with reachable():
        latest = PriceMeasurement.objects.filter(key_price__isnull=False).first()
        if (switch or settings.ISBNDB_BATCH_PRICE) == "measure":
            chosen_by, since = "measurement", _measured_since()
        else:
            chosen_by, since = ("switch", _switched_at(switch)) if switch else ("setting", None)
    return Prices(
        batch_price=BatchPrice(batch_price),
        chosen_by=chosen_by,
        since=since,
        key_price=latest.key_price if latest else None,
    )


def price_of(kind: RequestKind, *, isbns: int | None = None) -> int:
    """What one request costs now, in calls. `isbns`: how many ISBNs a batch has. Raises QuotaUnavailable."""
    return int(ask(_PRICE, _params(kind=kind, isbns=isbns))[0])


def cost_of_isbns(isbns: int) -> int:
    """What so many ISBNs cost now, in calls, asked for in batches of ISBNDB_BATCH_SIZE, without retries.

    Raises QuotaUnavailable.
    """
    size = settings.ISBNDB_BATCH_SIZE
    full, rest = divmod(isbns, size)
    return int(ask(_COST_OF_ISBNS, _params(kind=RequestKind.BATCH, size=size, full=full, rest=rest))[0])


def requests_for_isbns(isbns: int) -> int:
    """How many requests so many ISBNs take, in batches of ISBNDB_BATCH_SIZE."""
    return -(-isbns // settings.ISBNDB_BATCH_SIZE)


def batch_size_for(consumer: str) -> int:
    """How many ISBNs the consumer (a slug) can ask for in one batch now: at least 1, at most ISBNDB_BATCH_SIZE.

    It is 1 when nothing is free: the quota then refuses that batch, and says why. When limits are only observed, a
    batch is never cut. Raises ConsumerUnknown and QuotaUnavailable.
    """
    size = settings.ISBNDB_BATCH_SIZE
    status = get_status()
    if status.enforcement == "observe":
        return size
    calls = allowance_of(consumer, status).free
    [largest] = ask(_LARGEST_BATCH, _params(kind=RequestKind.BATCH, size=size, calls=calls))
    return int(largest or 1)


def is_probe_due() -> bool:
    """Whether the next batch should be preceded by a probe: the price of a batch is to be measured, and unknown.

    After MAX_UNSETTLED_PROBES in a row, one is due every PROBE_PAUSE. Raises QuotaUnavailable.
    """
    batch_price, *_ = ask(_PRICES, _params())
    if batch_price != BatchPrice.UNKNOWN:
        return False
    with reachable():
        last = list(PriceMeasurement.objects.filter(how=PriceMeasurement.How.PROBE)[:MAX_UNSETTLED_PROBES])
        [now] = ask("SELECT quota_now()")
    unsettled = len(last) == MAX_UNSETTLED_PROBES and not any(probe.batch_price for probe in last)
    return not unsettled or now - last[0].measured_at >= PROBE_PAUSE


def others_are_under_way(reservation: uuid.UUID, *, for_at_most: timedelta) -> bool:
    """Whether a request of another reservation may still reach ISBNdb.

    `for_at_most`: a request without an outcome that is older is over; its process has died. Raises QuotaUnavailable.
    """
    with reachable():
        [now] = ask("SELECT quota_now()")
        waiting = Call.objects.filter(outcome=Call.Outcome.UNKNOWN, dispatched_at__gt=now - for_at_most)
        return waiting.exclude(reservation=reservation).exists()


def others_were_sent(reservation: uuid.UUID, *, since: int) -> bool:
    """Whether another reservation has dispatched a request since the journal row `since`. Raises QuotaUnavailable."""
    with reachable():
        others = Call.objects.filter(pk__gt=since, reservation__isnull=False)
        return others.exclude(reservation=reservation).exists()


@dataclass(frozen=True)
class PriceChange:
    """ISBNdb's counter has shown another price of a batch than before, or than the one that is chosen."""

    measurement: int
    price: str
    """In words."""
    how: str
    """In words."""
    seen_at: datetime
    chosen_instead: str
    """The "switch" or "setting" that keeps another price in force; empty when the seen one is."""


def last_price_change(now: datetime) -> PriceChange | None:
    """The newest measured price of a batch, if it is news: another one, and seen within PRICE_IS_NEWS.

    What a person has confirmed is no news. As long as a lower price than the measured one is chosen, that is news: we
    charge too little. Raises QuotaUnavailable.
    """
    prices = get_prices()
    with reachable():
        newest, before = [*PriceMeasurement.objects.exclude(batch_price="")[:2], None, None][:2]
    if newest is None:
        return None
    differs = prices.batch_price != newest.batch_price
    if not (differs and newest.batch_price == BatchPrice.ISBN):
        if now - newest.measured_at >= PRICE_IS_NEWS or newest.how == PriceMeasurement.How.PERSON:
            return None
        if not differs and (before is None or before.batch_price == newest.batch_price):
            return None
    return PriceChange(
        measurement=newest.pk,
        price=newest.get_batch_price_display(),
        how=newest.get_how_display(),
        seen_at=newest.measured_at,
        chosen_instead=prices.chosen_by if differs else "",
    )


def measured_prices() -> list[PriceMeasurement]:
    """The evidence for the prices that were measured: the newest row for a batch, and the newest for `GET /key`.

    Raises QuotaUnavailable.
    """
    with reachable():
        newest = (
            PriceMeasurement.objects.exclude(batch_price="").first(),
            PriceMeasurement.objects.filter(key_price__isnull=False).first(),
        )
    return list(dict.fromkeys(row for row in newest if row))


def _params(**params: Any) -> dict[str, Any]:
    return params | {"batch_price": settings.ISBNDB_BATCH_PRICE}


def _measured_since() -> datetime | None:
    """When the newest measured price was first seen after another price."""
    since = None
    price = None
    for measurement in PriceMeasurement.objects.exclude(batch_price="").iterator():
        if price not in (None, measurement.batch_price):
            break
        price, since = measurement.batch_price, measurement.measured_at
    return since


def _switched_at(batch_price: str) -> datetime | None:
    """When the switch was set to its value."""
    since = None
    for version in Switches.history.order_by("-history_date").iterator():
        if version.batch_price != batch_price:
            break
        since = version.history_date
    return since

"""Puts measurements of ISBNdb's prices on record, and keeps the pace free for them."""

import uuid
from collections.abc import Sequence
from datetime import date
from typing import Any

import structlog
from psycopg.types.json import Jsonb

from quota.database import ask, reachable
from quota.models import PriceMeasurement

log = structlog.get_logger(__name__)

_RECORD = """
    INSERT INTO quota_pricemeasurement (day, measured_at, how, batch_price, key_price, figures, note)
    VALUES (%(day)s, quota_now(), %(how)s, %(batch_price)s, %(key_price)s, %(figures)s, %(note)s) RETURNING id"""
_HOLD_PACE = "SELECT quota_hold_pace(p_reservation => %(reservation)s, p_seconds => %(seconds)s)"


def hold_pace(reservation: uuid.UUID, *, seconds: float) -> bool:
    """For so many seconds, only this reservation gets send times; 0 ends that at once.

    False: the reservation is closed, or another one has the pace to itself. Raises QuotaUnavailable.
    """
    return bool(ask(_HOLD_PACE, {"reservation": reservation, "seconds": seconds})[0])


def record_measurement(
    *,
    day: date,
    how: PriceMeasurement.How,
    figures: Sequence[dict[str, Any]],
    batch_price: str = "",
    key_price: int | None = None,
    note: str = "",
) -> PriceMeasurement:
    """Records what was measured. A price that it found is in force from now on. Raises QuotaUnavailable."""
    params = {
        "day": day,
        "how": how,
        "batch_price": batch_price,
        "key_price": key_price,
        "figures": Jsonb(list(figures)),
        "note": note,
    }
    [written] = ask(_RECORD, params)
    with reachable():
        measurement = PriceMeasurement.objects.get(pk=written)
    report = log.info if batch_price else log.warning
    report("quota.price_measured", how=how.value, batch_price=batch_price, key_price=key_price, note=note)
    return measurement

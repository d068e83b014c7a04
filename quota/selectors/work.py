"""What pieces of work have spent, by the `source` of their reservations."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta

from django.db.models import Count, Sum

from quota.database import QuotaNow, reachable
from quota.models import Call, Reservation

RATE_OVER = timedelta(minutes=1)


@dataclass(frozen=True)
class Spent:
    """`calls`: all that one source has spent. `requests_a_minute`: dispatched for it in the last minute."""

    calls: int = 0
    requests_a_minute: int = 0


def spent_by(sources: Collection[str]) -> dict[str, Spent]:
    """What each of the sources has spent, in the same two queries for one as for all. Raises QuotaUnavailable."""
    with reachable():
        own = Reservation.objects.filter(source__in=sources).order_by().values_list("source")
        calls = dict(own.annotate(Sum("dispatched")))
        # A dispatch extends the lease, so reservations whose lease is over have dispatched nothing since.
        recent = Call.objects.filter(
            reservation__source__in=sources,
            reservation__expires_at__gt=QuotaNow() - RATE_OVER,
            dispatched_at__gt=QuotaNow() - RATE_OVER,
        )
        rates = dict(recent.order_by().values_list("reservation__source").annotate(Count("pk")))
    return {source: Spent(calls.get(source, 0), rates.get(source, 0)) for source in sources}

"""A batch for which several consumers pay: one request, and a share of its price for each of them."""

import time
import uuid
from collections.abc import Sequence
from datetime import timedelta

from django.conf import settings

from quota.database import FIELDS, ask
from quota.exceptions import ReservationClosed, ReservationSpent, ShareNotPaid
from quota.services.refusals import Asker
from quota.services.reservations import DispatchedCall, decide, dispatched_call, raise_unless_granted

_DISPATCH_SHARED = f"""
    SELECT {FIELDS} FROM quota_dispatch_shared(
        p_reservations => %(reservations)s::uuid[], p_isbns => %(isbns)s::integer[], p_method => %(method)s,
        p_path => %(path)s, p_lease => %(lease)s, p_urgent => %(urgent)s,
        p_enforce => quota_enforces(p_default => %(enforcement)s), p_batch_price => %(batch_price)s
    )"""  # noqa: S608 (names of columns)

_SHARES = """
    SELECT
        array_agg(quota_share(p_isbns => isbns, p_is_first => true, p_batch_price => batch_price) ORDER BY position),
        array_agg(quota_share(p_isbns => isbns, p_is_first => false, p_batch_price => batch_price) ORDER BY position)
    FROM quota_prices(p_default => %(batch_price)s),
        unnest(%(isbns)s::integer[]) WITH ORDINALITY AS payer (isbns, position)"""


def dispatch_shared(
    payers: Sequence[tuple[uuid.UUID | None, int]], *, method: str, path: str
) -> DispatchedCall | timedelta:
    """`reservations.dispatch` for a batch of several payers: all of them pay in one statement, or none does.

    `payers`: the reservation of each (None: it has reserved nothing yet), and how many of the ISBNs are its own. By the
    request, the first one pays for all; by the ISBN, each pays its own. The first one needs a reservation.

    Raises ShareNotPaid when one of them holds fewer calls than its share, or its reservation is closed, and else what
    `reservations.dispatch` raises.
    """
    asked_at = time.monotonic()
    reservations = [reservation for reservation, _ in payers]
    isbns = [number for _, number in payers]
    decision = decide("dispatch", _DISPATCH_SHARED, reservations=reservations, isbns=isbns, method=method, path=path)
    number = (decision.payer or 1) - 1
    reservation = reservations[number]
    try:
        raise_unless_granted(decision, asker=Asker(reservation=reservation))
    except (ReservationClosed, ReservationSpent) as error:
        raise ShareNotPaid(number, error) from error
    first = reservations[0]
    if first is None:
        raise RuntimeError("A batch was dispatched without a reservation.")
    return dispatched_call(first, decision, asked_at, is_shared=len(payers) > 1)


def shares_of_batch(isbns: Sequence[int]) -> list[tuple[int, int]]:
    """What payers with so many ISBNs in a batch pay of its price now, in calls: as the first payer, or as another.

    Raises QuotaUnavailable.
    """
    params = {"isbns": list(isbns), "batch_price": settings.ISBNDB_BATCH_PRICE}
    firsts, others = ask(_SHARES, params)
    return list(zip(firsts, others, strict=True))

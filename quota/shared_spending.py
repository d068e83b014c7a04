"""Several consumers pay for one batch: each for its own ISBNs in it or, by the request, the first for all."""

from datetime import timedelta

from quota.exceptions import ConsumerInactive, ConsumerUnknown, QuotaRefused, ReservationSpent, ShareNotPaid
from quota.prices import RequestKind
from quota.services.reservations import DispatchedCall
from quota.services.shares import dispatch_shared, shares_of_batch
from quota.spending import Spender

REFUSALS = (QuotaRefused, ConsumerInactive, ConsumerUnknown)
"""The quota refuses one consumer; others may still pay."""


class SharedPayer:
    """The Payer of one batch, for those who have ISBNs in it: a Spender and its number of ISBNs for each.

    By the request, the first of them pays for all; by the ISBN, each pays its own. What else the batch needs, such as a
    question for ISBNdb's counter, is paid by the first.
    """

    def __init__(self, payers: list[tuple[Spender, int]]) -> None:
        self.payers = payers

    @property
    def left(self) -> int:
        return sum(spender.left for spender, _ in self.payers)

    @property
    def log_fields(self) -> dict[str, str]:
        """The consumers and the operation."""
        return {
            "consumer": ", ".join(spender.consumer for spender, _ in self.payers),
            "operation": ", ".join({spender.operation for spender, _ in self.payers}),
        }

    @property
    def calls_spent(self) -> int:
        """The prices of all requests that were dispatched, in calls."""
        return sum(spender.calls_spent for spender, _ in self.payers)  # a request is one of its first payer

    def hold(self) -> list[str]:
        """Reserves the share of each. Those who are refused are payers no more; returns their slugs.

        Raises QuotaUnavailable.
        """
        paying: list[tuple[Spender, int]] = []
        refused: list[str] = []
        shares = shares_of_batch([isbns for _, isbns in self.payers])
        for (spender, isbns), (of_first, of_another) in zip(self.payers, shares, strict=True):
            share = of_another if paying else of_first
            try:
                if share:
                    spender.hold(share)
            except REFUSALS:
                refused.append(spender.consumer)
            else:
                paying.append((spender, isbns))
        self.payers = paying
        return refused

    def dispatch(
        self, kind: RequestKind, method: str, path: str, *, isbns_asked: int | None = None
    ) -> DispatchedCall | timedelta:
        """`Spender.dispatch`; for the batch, all pay in the same statement."""
        first, _ = self.payers[0]
        if kind is not RequestKind.BATCH or len(self.payers) == 1:
            return first.dispatch(kind, method, path, isbns_asked=isbns_asked)
        while True:
            try:
                answer = dispatch_shared(
                    [(spender.reservation, isbns) for spender, isbns in self.payers], method=method, path=path
                )
            except ShareNotPaid as unpaid:
                self._make_good(unpaid)
                continue
            if isinstance(answer, DispatchedCall):
                first.dispatched.append(answer)
                for spender, share in self._shares(answer):
                    spender.left -= share
            return answer

    def extend(self, calls: int) -> None:
        """Reserves the share of each once more, for a retry. Raises what `reservations.extend` raises."""
        if len(self.payers) == 1:
            self.payers[0][0].extend(calls)
            return
        for spender, share in self._shares(self.payers[0][0].dispatched[-1]):
            if share:
                spender.hold(spender.left + share)

    def done(self) -> None:
        for spender, _ in self.payers:
            spender.done()

    def _shares(self, call: DispatchedCall) -> list[tuple[Spender, int]]:
        """What each has paid of a batch, in calls."""
        by_the_request = call.price < sum(isbns for _, isbns in self.payers)
        first, _ = self.payers[0]
        return [
            (spender, isbns if not by_the_request else call.price if spender is first else 0)
            for spender, isbns in self.payers
        ]

    def _make_good(self, unpaid: ShareNotPaid) -> None:
        """Reserves what a payer lacks: the price has risen, or limits are only observed. Raises what it refuses."""
        spender, _ = self.payers[unpaid.payer]
        if isinstance(unpaid.why, ReservationSpent):
            spender.hold(spender.left + unpaid.why.missing)
        else:
            spender.start_again(unpaid.why, calls=spender.left)

"""What an answer means that does not say why ISBNdb refuses. ISBNdb's own counter settles whether the day is over."""

import time
from collections.abc import Callable
from datetime import timedelta

from enrichment.exceptions import IsbndbError, IsbndbKeyRefused, IsbndbUnclear
from enrichment.gateway.replies import Reply
from quota.exceptions import QuotaRefused
from quota.models import Reconciliation
from quota.prices import BatchPrice, RequestKind
from quota.selectors.plan import PlanToday, get_plan
from quota.selectors.prices import get_prices
from quota.services import reservations as quota
from quota.services.reservations import DispatchedCall

QUESTION_EVERY = timedelta(seconds=10)
"""The whole fleet asks ISBNdb's counter at most once within this time what unclear answers mean."""

MAX_WAIT_SECONDS = 20.0
"""How long one process waits for the answer to the question of another, and for its own turn to ask."""

LOOK_EVERY_SECONDS = 0.25

LITTLE_LEFT = 2_000
"""If fewer calls are left, a 404 to a listing may mean the end of the day. Between two reconciliations, ten minutes
apart, another program with our key can send 1,800 requests at the pace of our plan. On a plan that charges by the ISBN
these can cost more. If that hides the end of the day, an unknown author is at least asked for again after a day."""

RECENT = timedelta(minutes=15)
"""An older answer of ISBNdb's counter says nothing about what is left now. The cron asks every ten minutes."""


def is_unclear(kind: RequestKind, call: DispatchedCall, reply: Reply) -> bool:
    """Whether the answer to a request may mean that the daily limit is reached, but does not say so.

    An answer of ISBNdb's counter itself is never unclear: there is nothing else to ask.
    """
    if kind is RequestKind.KEY:
        return False
    if reply.status != 404:
        return reply.status in {403, 429} and reply.names_day() == reply.names_pace()
    if kind is RequestKind.BATCH:  # unknown ISBNs are missing from an answer, which is a 200
        return True
    plan = get_plan(call.day)
    return plan.left is None or plan.left <= LITTLE_LEFT or (plan.age is not None and plan.age > RECENT)


def is_day_over(call: DispatchedCall, *, ask_counter: Callable[[], Reconciliation]) -> bool:
    """Whether nothing is left of ISBNdb's day. Then the day is closed.

    Asks ISBNdb's counter, unless its last answer is enough, or another process asks it at the same time.
    `ask_counter`: asks for it and reconciles, paid for by the operation that got the unclear answer.

    Raises IsbndbUnclear when the counter cannot be asked or does not say it, IsbndbKeyRefused when ISBNdb rejects our
    key there too, and the errors of the quota.
    """
    newest_call = get_plan(call.day).newest_call
    give_up_at = time.monotonic() + MAX_WAIT_SECONDS
    while True:
        plan = get_plan(call.day)
        if plan.is_closed:
            return True
        # While the price of a batch is unknown, ours may be far above ISBNdb's count, and proves nothing.
        if plan.left is not None and plan.left <= 0 and get_prices().batch_price != BatchPrice.UNKNOWN:
            quota.close_day(call, reason=f"ISBNdb refuses calls, and we count all {plan.total:,} that it sells a day.")
            return True
        if _is_enough(plan, newest_call):
            return False
        if quota.claim_settling(call, every=QUESTION_EVERY):
            _ask(ask_counter)
        elif time.monotonic() > give_up_at:
            raise IsbndbUnclear("Another process asks ISBNdb's counter, and has got no answer.")
        else:
            quota.sleep_until(time.monotonic() + LOOK_EVERY_SECONDS)


def _is_enough(plan: PlanToday, newest_call: int) -> bool:
    """Whether the last answer of the counter shows that calls were left when ISBNdb gave the unclear answer.

    It does if it was asked for later, or if it is young and so many calls are left that nobody can have spent them.
    """
    if plan.left is None or plan.age is None:
        return False
    return plan.asked_by > newest_call or (plan.age < QUESTION_EVERY and plan.left > LITTLE_LEFT)


def _ask(ask_counter: Callable[[], Reconciliation]) -> None:
    try:
        counters = ask_counter()
    except IsbndbKeyRefused:
        raise
    except IsbndbError as error:
        raise IsbndbUnclear(f"Its counter did not answer: {error}") from error
    except QuotaRefused as refusal:
        if refusal.limit != "cap_per_operation":
            raise  # nothing is left for this consumer today, so its operation ends in any case
        raise IsbndbUnclear("The cap of the operation leaves no call to ask ISBNdb's counter.") from refusal
    if counters.ignored:
        raise IsbndbUnclear(f"ISBNdb's counter does not help: {counters.ignored}")

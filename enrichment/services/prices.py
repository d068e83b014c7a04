"""Measures what ISBNdb charges, by its own counter: a batch of two ISBNs between questions for the counter.

`docs/adr/0006-prices-are-measured.md` says why, and which answers settle a price.
"""

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from django.conf import settings

from enrichment.books.decoding import Answer
from enrichment.exceptions import ENDINGS, IsbndbError
from enrichment.gateway.asking import ask
from enrichment.gateway.questions import batch_of, key_usage
from enrichment.services.stop_reasons import public_message
from quota.exceptions import QuotaError, QuotaUnavailable
from quota.models import PriceMeasurement
from quota.prices import BatchPrice, RequestKind
from quota.selectors.allowances import allowance_of
from quota.selectors.prices import is_probe_due, others_are_under_way, others_were_sent, price_of
from quota.selectors.status import get_status
from quota.services import corrections, reservations
from quota.services.prices import hold_pace, record_measurement
from quota.spending import MAX_PACE_WAIT, Spender

log = structlog.get_logger(__name__)

PROBE_ISBNS = 2
"""The size of the measured batch: the smallest one of which both prices differ."""

PAUSES = (5.0, 8.0, 12.0, 15.0, 15.0)
"""Seconds before each further question for the counter. The last answer is that of about a minute after the batch."""

MAX_QUESTIONS = 2 + len(PAUSES)
"""Questions for the counter at most: one before the batch, one after it, and one after each of PAUSES."""

HOLD_MARGIN = 12.0
"""Seconds for which the pace is held beyond a pause. If the process dies, everybody else waits no longer."""

QUIET_WAIT = 10.0
"""Seconds to wait at most until the requests that were under way have ended."""

TURN_WAIT = MAX_PACE_WAIT.total_seconds()
"""Seconds to wait at most for the probe of another process."""

POLL = 0.2
"""Seconds between two looks at what others do."""


def settled_prices(spent: Sequence[int], at: Sequence[float], *, is_last: bool) -> tuple[str, int] | None:
    """The price of the batch of two and of `GET /key`, by ISBNdb's counts: one before the batch, the others after it.

    `at`: when each was asked for, in seconds. Each question may itself cost a call, which the last two counts show:
    nothing else was sent between them. What is left of the rise is the batch. The lower price must not be taken for
    true by mistake, so every count after the batch must show it; from a counter that lags, see `_shows_lower_price`.
    None: this settles nothing.
    """
    if len(spent) < 3 or (key_price := spent[-1] - spent[-2]) not in {0, 1}:
        return None
    rises = [count - spent[0] - key_price * questions for questions, count in enumerate(spent)][1:]
    if rises[-1] == PROBE_ISBNS:
        return BatchPrice.ISBN, key_price
    if rises[-1] == 1 and (set(rises) == {1} or (is_last and _shows_lower_price(spent, at, rises, key_price))):
        return BatchPrice.REQUEST, key_price
    return None


def _shows_lower_price(spent: Sequence[int], at: Sequence[float], rises: Sequence[int], key_price: int) -> bool:
    """Whether a counter that lags shows, at the end of the minute, that the batch has cost one call.

    The calls of questions that it does not show yet make a batch look cheaper than it was. So if questions cost a call,
    the last three counts must agree, and the last pause must be twice as long as the counter took to show anything.
    """
    if list(spent) != sorted(spent):
        return False
    lag = next(moment for moment, count in zip(at, spent, strict=True) if count > spent[0]) - at[0]
    return key_price == 0 or (set(rises[-3:]) == {1} and at[-1] - at[-2] >= 2 * lag)


@dataclass(frozen=True)
class Probe:
    """What a probe has brought: the answer for its two ISBNs (None: it was not even sent), and what is on record."""

    answer: Answer | None
    measurement: PriceMeasurement | None


def probe(wanted: list[str], spender: Spender) -> Answer | None:
    """Measures the price of a batch while it is unknown, with the first PROBE_ISBNS of `wanted`; returns their answer.

    None when there was no probe: the price is known, the pace is not free, or the quota has no calls for it. Then the
    batch is charged the higher price. Raises what `ask` raises.
    """
    if len(wanted) < PROBE_ISBNS or not is_probe_due():
        return None
    needed = max(spender.calls if spender.reservation is None else spender.left, _price_of_batch(len(wanted)))
    if not _can_pay(spender, needed + _price_of_questions()):
        return None
    answer = None
    try:
        answer = measure(wanted[:PROBE_ISBNS], spender, rest=needed - PROBE_ISBNS, only_if=is_probe_due).answer
    except QuotaUnavailable:
        raise
    except QuotaError as refusal:  # the batch is refused in the same way, or it fits where the probe does not
        log.warning("isbndb.no_probe", refusal=str(refusal))
    spender.release_beyond(needed if answer is None else needed - PROBE_ISBNS)
    return answer


def measure(isbns: list[str], spender: Spender, *, rest: int = 0, only_if: Callable[[], bool] = lambda: True) -> Probe:
    """Asks ISBNdb for the two ISBNs between questions for its counter, with nothing else of ours sent in between.

    `rest`: the calls that the operation needs afterwards. `only_if`: looked at again when the pace is free for it. If
    the figures settle nothing, the counter is asked again after each of PAUSES. Raises what the batch raises, and what
    the quota says when it refuses the calls for it.
    """
    spender.hold(_price_of_batch(len(isbns)) + rest + _price_of_questions())
    with _pace_held(spender, only_if) as is_free:
        return _measure(isbns, spender, rest) if is_free else Probe(None, None)


def _measure(isbns: list[str], spender: Spender, rest: int) -> Probe:
    begun = len(spender.dispatched)
    figures: list[dict[str, Any]] = []
    answer = prices = None
    note = ""
    try:
        figures.append(_ask_counter(spender))
    except IsbndbError as error:
        note = f"ISBNdb did not tell its counter, so no batch was sent. {public_message(error)}"
    else:
        try:
            answer = ask(batch_of(isbns, spender))
        except IsbndbError as error:
            _record(spender, figures, None, f"ISBNdb did not answer the batch. {public_message(error)}")
            raise
        try:
            for number, pause in enumerate((0.0, *PAUSES)):
                _wait(spender, pause)
                spender.hold(rest + price_of(RequestKind.KEY))
                figures.append(_ask_counter(spender))
                spent = [each["spent"] for each in figures]
                at = [datetime.fromisoformat(each["at"]).timestamp() for each in figures]
                if prices := settled_prices(spent, at, is_last=number == len(PAUSES)):
                    break
            else:
                note = "ISBNdb's counter did not move as a batch of two moves it: it lags, or others use the key too."
            if others_were_sent(spender.dispatched[begun].reservation, since=figures[0]["call"]):
                prices, note = None, "Another request was sent in between."
        except ENDINGS as error:  # what ISBNdb has answered so far must not be lost
            note = f"The measurement stopped early. {public_message(error)}"
            prices = None
    if len(spender.dispatched) - begun > len(figures) + 1:
        prices, note = None, note or "A request failed and was repeated."
    return Probe(answer, _record(spender, figures, prices, note))


def _record(
    spender: Spender, figures: list[dict[str, Any]], prices: tuple[str, int] | None, note: str
) -> PriceMeasurement | None:
    """Puts the evidence on record. When the database does not answer, the price stays unknown."""
    batch_price, key_price = prices or ("", None)
    try:
        return record_measurement(
            day=spender.dispatched[-1].day,
            how=PriceMeasurement.How.PROBE,
            figures=figures,
            batch_price=batch_price,
            key_price=key_price,
            note=note,
        )
    except QuotaUnavailable:
        log.exception("isbndb.price_not_recorded")
        return None


def _ask_counter(spender: Spender) -> dict[str, Any]:
    usage = ask(key_usage(spender))
    question = spender.dispatched[-1]
    if usage.left <= 0:  # the day is over: a batch would only be refused
        corrections.reconcile(question, spent=usage.spent, total=usage.total, left=usage.left)
    return {"at": datetime.now(UTC).isoformat(), "spent": usage.spent, "call": question.id}


def _wait(spender: Spender, seconds: float) -> None:
    """Pauses, and holds the pace for longer than that."""
    if seconds and spender.reservation:
        hold_pace(spender.reservation, seconds=seconds + HOLD_MARGIN)
        reservations.sleep_until(time.monotonic() + seconds)


@contextmanager
def _pace_held(spender: Spender, only_if: Callable[[], bool]) -> Iterator[bool]:
    """Has the pace for this operation alone, once nothing else is under way. False: not within a short time.

    While another process measures, it waits for that, and looks whether it is still needed.
    """
    reservation = spender.reservation
    if reservation is None:
        raise RuntimeError("Only an operation that holds calls can have the pace for itself.")
    turn_by = time.monotonic() + TURN_WAIT
    while not hold_pace(reservation, seconds=QUIET_WAIT + HOLD_MARGIN):
        if time.monotonic() >= turn_by or not only_if():
            yield False
            return
        reservations.sleep_until(time.monotonic() + POLL)
    try:
        yield only_if() and _becomes_quiet(reservation)
    finally:
        try:
            hold_pace(reservation, seconds=0)
        except QuotaUnavailable:
            log.exception("isbndb.pace_not_released")  # the hold ends by itself


def _becomes_quiet(reservation: uuid.UUID) -> bool:
    """Waits until no request of others is under way. False: one still is after QUIET_WAIT."""
    quiet_by = time.monotonic() + QUIET_WAIT
    longest = timedelta(seconds=settings.ISBNDB_TIMEOUT_SECONDS) + 2 * reservations.MAX_SLOT_DISTANCE
    while others_are_under_way(reservation, for_at_most=longest):
        if time.monotonic() >= quiet_by:
            return False
        reservations.sleep_until(time.monotonic() + POLL)
    return True


def _can_pay(spender: Spender, calls: int) -> bool:
    """Whether the operation gets so many calls now. To try it would put a refusal on record."""
    status = get_status()
    left = spender.left if spender.reservation else 0
    return status.enforcement == "observe" or allowance_of(spender.consumer, status).free >= calls - left


def _price_of_batch(isbns: int) -> int:
    return price_of(RequestKind.BATCH, isbns=isbns)


def _price_of_questions() -> int:
    """Of those that every probe needs: before the batch, after it, and after the first pause."""
    return 3 * price_of(RequestKind.KEY)

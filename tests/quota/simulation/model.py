"""The quota in plain Python: what each call of its services must answer, and what it must leave behind.

It is written from docs/quota.md, not from the SQL. `test_simulation.py` compares it with PostgreSQL, call by call.
`test_interleavings.py` explores, on it, all orders in which several processes can take their steps.

An operation is one method. It changes the model and returns its answer: a tuple of a word and its figures. The pace has
a send time for every request here, however far ahead: `tests/quota/test_turns.py` tests who waits.
"""

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

Answer = tuple[Any, ...]

GUARD = timedelta(seconds=2)
QUESTION_APART = timedelta(minutes=9)
LATE_RESET = timedelta(hours=1)
CLOSED: Answer = ("closed",)


@dataclass
class Consumer:
    kind: str = "api"
    floor: int = 0
    budget: int | None = None
    cap: int | None = None
    active: bool = True


@dataclass
class Limits:
    daily_limit: int
    safety_buffer: int
    max_rps: int = 3

    @property
    def safety_limit(self) -> int:
        return self.daily_limit - self.safety_buffer

    @property
    def pace(self) -> timedelta:
        return timedelta(seconds=1.05) / self.max_rps


@dataclass
class Reservation:
    consumer: str
    day: date
    calls: int
    expires_at: datetime
    dispatched: int = 0
    state: str = "open"

    @property
    def left(self) -> int:
        return self.calls - self.dispatched


@dataclass
class Call:
    """A row of the journal. `reservation`: its number; None: not a request of ours."""

    day: date
    consumer: str
    calls: int
    reservation: int | None
    at: datetime
    send_at: datetime
    kind: str = ""
    is_share: bool = False


@dataclass
class Reconciliation:
    at: datetime
    spent: int
    limit_to: int | None


@dataclass
class Day:
    limits: Limits
    not_before: datetime
    closed_at: datetime | None = None
    used: dict[str, int] = field(default_factory=dict)
    reserved: dict[str, int] = field(default_factory=dict)
    reconciliations: list[Reconciliation] = field(default_factory=list)

    @property
    def total(self) -> int:
        return sum(self.used.values()) + sum(self.reserved.values())

    def post(self, consumer: str, *, used: int = 0, reserved: int = 0) -> None:
        self.used[consumer] = self.used.get(consumer, 0) + used
        self.reserved[consumer] = self.reserved.get(consumer, 0) + reserved


def midnight(day: date) -> datetime:
    """At which the day begins."""
    return datetime.combine(day, time(), UTC)


def end_of_sending(day: date) -> datetime:
    return midnight(day + timedelta(days=1)) - GUARD


@dataclass
class Quota:
    now: datetime
    configured: Limits
    consumers: dict[str, Consumer]
    enforce: bool = True
    harvest: bool = True
    batch_price: str = "request"
    days: dict[date, Day] = field(default_factory=dict)
    reservations: list[Reservation] = field(default_factory=list)
    journal: list[Call] = field(default_factory=list)

    @property
    def today(self) -> date:
        return self.now.date()

    # --- Rules

    def price(self, kind: str, isbns: int | None) -> int:
        if kind == "feed":
            return 0
        return isbns or 0 if kind == "batch" and self.batch_price == "isbn" else 1

    def switch_against(self, consumer: str) -> str | None:
        who = self.consumers[consumer]
        if not who.active:
            return "inactive"
        return "harvest_off" if who.kind != "api" and not self.harvest else None

    def limit_against(self, consumer: str, calls: int, *, taken: int = 0, kind: str = "") -> Answer | None:
        """Why the consumer cannot have so many more calls today, and what it could have; None: it can have them."""
        who, day = self.consumers[consumer], self.days[self.today]
        closed = day.closed_at is not None and kind != "key"
        too_late = self.now >= end_of_sending(self.today)
        left = day.limits.safety_limit - day.total
        own = day.used.get(consumer, 0) + day.reserved.get(consumer, 0)
        room = {
            "cap_per_operation": None if who.cap is None else who.cap - taken,
            "daily_budget": None if who.budget is None else who.budget - own,
            "safety_limit": left,
            "floor": left - who.floor,
        }
        known = [value for value in room.values() if value is not None]
        free = 0 if closed or too_late else max(0, min(known))
        wanted = 0 if self.passes_limits(kind) else calls
        limit = next(
            (name for name, value in room.items() if value is not None and wanted > value and wanted > 0),
            None,
        )
        if closed and wanted:
            limit = "day_closed"
        elif too_late:
            limit = "midnight"
        if limit is None:
            return None
        a_day = min(day.limits.safety_limit - who.floor, who.budget if who.budget is not None else wanted)
        ever = wanted <= a_day and (who.cap is None or wanted <= who.cap - taken)
        return ("refused", limit, calls, free, self.next_try(limit, self.today) if ever else None)

    def next_try(self, limit: str, day: date) -> datetime:
        return midnight(day + timedelta(days=1)) + (GUARD if limit == "midnight" else timedelta())

    def passes_limits(self, kind: str) -> bool:
        """One question for ISBNdb's counter in nine minutes goes out on a closed day, whatever is used."""
        closed_at = self.days[self.today].closed_at
        if closed_at is None or kind != "key":
            return False
        since = max(closed_at, self.now - QUESTION_APART)
        return not any(call.kind == "key" and call.day == self.today and call.at > since for call in self.journal)

    def send_time(self, day: date) -> datetime:
        return max(self.now, self.days[day].not_before, midnight(day) + GUARD)

    def is_usable(self, reservation: Reservation) -> bool:
        return reservation.state == "open" and reservation.expires_at > self.now and reservation.day == self.today

    # --- The life of a call

    def open_day(self) -> None:
        if self.today not in self.days:
            before = [day.not_before for when, day in self.days.items() if when < self.today]
            limits = Limits(self.configured.daily_limit, self.configured.safety_buffer, self.configured.max_rps)
            self.days[self.today] = Day(limits, max([self.now, *before]))

    def reserve(
        self, consumer: str, calls: int, lease: timedelta, *, kind: str | None = None, isbns: int | None = None
    ) -> Answer:
        """With `kind` also dispatches the first request. ("granted", calls reserved, its price, its send time)."""
        self.open_day()
        if consumer not in self.consumers:
            return ("unknown",)
        if switch := self.switch_against(consumer):
            return ("off", switch)
        price = None if kind is None else self.price(kind, isbns)
        calls = max(calls, price or 0)
        refusal = self.limit_against(consumer, calls, kind=kind or "")
        if refusal and self.expire_day(self.today):
            refusal = self.limit_against(consumer, calls, kind=kind or "")
        if refusal and self.enforce:
            return refusal
        day = self.days[self.today]
        day.post(consumer, reserved=calls)
        self.reservations.append(Reservation(consumer, self.today, calls, self.now + lease))
        number = len(self.reservations) - 1
        if kind is None:
            return ("granted", calls, None, None)
        if self.send_time(self.today) >= end_of_sending(self.today):
            return ("wait", calls)
        send_at = self._spend(number, price or 0, kind, lease)
        return ("granted", calls, price, send_at)

    def dispatch(self, number: int, kind: str, isbns: int | None, lease: timedelta) -> Answer:
        """("granted", price, send time)."""
        return self._dispatch(number, kind, self.price(kind, isbns), lease)

    def dispatch_shared(self, payers: list[tuple[int | None, int]], lease: timedelta) -> Answer:
        """A batch of several payers: the number of the reservation of each, and its ISBNs."""
        by_isbn = self.batch_price == "isbn"
        shares = [isbns if by_isbn else int(position == 0) for position, (_, isbns) in enumerate(payers)]
        for position, ((number, _), share) in enumerate(zip(payers, shares, strict=True)):
            if share == 0:
                continue
            holder = None if number is None else self.reservations[number]
            if holder and not self.is_usable(holder):
                return ("unpaid", position, *CLOSED)
            if share > (missing_from := holder.left if holder else 0):
                return ("unpaid", position, "spent", share - missing_from)
            if holder and (switch := self.switch_against(holder.consumer)):
                return ("off", switch)
        first = payers[0][0]
        assert first is not None
        answer = self._dispatch(first, "batch", self.price("batch", sum(n for _, n in payers)), lease, pays=shares[0])
        if answer[0] != "granted":
            return answer
        for (number, _), share in zip(payers[1:], shares[1:], strict=True):
            if share and number is not None:
                self._pay(number, share, "batch", answer[2], lease, is_share=True)
        return ("granted", sum(shares), answer[2])

    def _dispatch(self, number: int, kind: str, price: int, lease: timedelta, *, pays: int | None = None) -> Answer:
        reservation = self.reservations[number]
        share = price if pays is None else pays
        if not self.is_usable(reservation):
            return CLOSED
        if share > reservation.left:
            return ("spent", share - reservation.left)
        if switch := self.switch_against(reservation.consumer):
            return ("off", switch)
        day = self.days[self.today]
        limit = None
        if self.send_time(self.today) >= end_of_sending(self.today):
            limit = "midnight"
        elif price and day.closed_at is not None and kind != "key":
            limit = "day_closed"
        elif price and sum(day.used.values()) + price > day.limits.safety_limit and not self.passes_limits(kind):
            limit = "safety_limit"
        if limit and self.enforce:
            return ("refused", limit, share, 0, self.next_try(limit, self.today))
        if limit == "midnight":
            return ("wait",)  # nothing is sent near midnight, also while limits are only observed
        return ("granted", share, self._spend(number, share, kind, lease))

    def _spend(self, number: int, calls: int, kind: str, lease: timedelta) -> datetime:
        send_at = self.send_time(self.today)
        self._pay(number, calls, kind, send_at, lease)
        day = self.days[self.today]
        day.not_before = send_at + day.limits.pace
        return send_at

    def _pay(
        self, number: int, calls: int, kind: str, send_at: datetime, lease: timedelta, *, is_share: bool = False
    ) -> None:
        reservation = self.reservations[number]
        self.days[self.today].post(reservation.consumer, used=calls, reserved=-calls)
        reservation.dispatched += calls
        reservation.expires_at = max(reservation.expires_at, send_at + lease)
        self.journal.append(
            Call(self.today, reservation.consumer, calls, number, self.now, send_at, kind, is_share=is_share)
        )

    def move(self, position: int, lease: timedelta) -> Answer:
        """Another send time for a request (its position in the journal). ("granted", send time)."""
        call = self.journal[position]
        day, send_at = self.days[call.day], self.send_time(call.day)
        limit = None
        if send_at >= end_of_sending(call.day):
            limit = "midnight"
        elif day.closed_at is not None and call.calls and call.kind != "key" and self.enforce:
            limit = "day_closed"
        if limit:
            return ("refused", limit, 0, 0, self.next_try(limit, call.day))
        assert call.reservation is not None
        reservation = self.reservations[call.reservation]
        reservation.expires_at = max(reservation.expires_at, send_at + lease)
        call.send_at, day.not_before = send_at, send_at + day.limits.pace
        return ("granted", send_at)

    def extend(self, number: int, calls: int, lease: timedelta) -> Answer:
        reservation = self.reservations[number]
        if not self.is_usable(reservation):
            return CLOSED
        if switch := self.switch_against(reservation.consumer):
            return ("off", switch)
        refusal = self.limit_against(reservation.consumer, calls, taken=reservation.calls)
        if refusal and self.expire_day(self.today):
            refusal = self.limit_against(reservation.consumer, calls, taken=reservation.calls)
        if refusal and self.enforce:
            return refusal
        self.days[self.today].post(reservation.consumer, reserved=calls)
        reservation.calls += calls
        reservation.expires_at = max(reservation.expires_at, self.now + lease)
        return ("granted",)

    def shrink(self, number: int, left: int) -> Answer:
        reservation = self.reservations[number]
        back = reservation.left - left
        if reservation.state != "open" or back <= 0:
            return ("back", 0)
        reservation.calls -= back
        self.days[reservation.day].post(reservation.consumer, reserved=-back)
        return ("back", back)

    def settle(self, number: int) -> Answer:
        reservation = self.reservations[number]
        back = reservation.left if reservation.state == "open" else 0
        self._close(reservation, "settled")
        return ("back", back)

    def expire_day(self, day: date) -> int:
        over = [
            reservation
            for reservation in self.reservations
            if reservation.day == day
            and reservation.state == "open"
            and (reservation.expires_at <= self.now or day < self.today)
        ]
        for reservation in over:
            self._close(reservation, "expired")
        return len(over)

    def expire(self) -> Answer:
        return ("closed", sum(self.expire_day(day) for day in self.days))

    def _close(self, reservation: Reservation, state: str) -> None:
        if reservation.state == "open":
            reservation.state = state
            self.days[reservation.day].post(reservation.consumer, reserved=-reservation.left)

    # --- The day and its corrections

    def increment(self, calls: int) -> Answer:
        self.open_day()
        self._correct("external", calls)
        return ("done",)

    def adjust(self, consumer: str, calls: int) -> Answer:
        if self.today not in self.days:
            return ("not open",)
        if self.days[self.today].used.get(consumer, 0) + calls < 0:
            return ("too much",)
        self._correct(consumer, calls)
        return ("done",)

    def _correct(self, consumer: str, calls: int) -> None:
        self.days[self.today].post(consumer, used=calls)
        self.journal.append(Call(self.today, consumer, calls, None, self.now, self.now))

    def close_day(self, position: int) -> Answer:
        """ISBNdb has answered this request with the end of its day."""
        day = self.days[self.journal[position].day]
        day.closed_at = day.closed_at or self.now
        return ("done",)

    def reopen(self) -> Answer:
        day = self.days.get(self.today)
        if day is None or day.closed_at is None:
            return ("not closed",)
        day.closed_at = None
        return ("done",)

    def apply_limits(self) -> Answer:
        if self.today not in self.days:
            return ("not open",)
        limits = self.days[self.today].limits
        limits.daily_limit, limits.safety_buffer = self.configured.daily_limit, self.configured.safety_buffer
        return ("done",)

    def reconcile(self, position: int, spent: int, total: int, answered: int | None = None) -> Answer:
        """ISBNdb has answered this question for its counter. ("compared", raised by, change of the day, limit).

        `answered`: how many rows the journal had when the answer came; None: it came just now.
        """
        left = total - spent
        call = self.journal[position]
        day = self.days[call.day]
        since = [] if answered is None else self.journal[answered:]
        used = sum(day.used.values()) - sum(late.calls for late in since if late.reservation is not None)
        before = self.days.get(self.today - timedelta(days=1))
        yesterday = before.reconciliations[-1].spent if before and before.reconciliations else None
        if (
            self.now - midnight(self.today) < LATE_RESET
            and not day.reconciliations
            and spent > used
            and not (yesterday is not None and spent < yesterday)
        ):
            return ("ignored",)
        raised = max(0, spent - used)
        if raised:
            self._correct("external", raised)
        limit_to = self._follow_plan(day, total)
        day.reconciliations.append(Reconciliation(self.now, spent, limit_to))
        change = ""
        if left <= 0:
            change = "closed" if day.closed_at is None else ""
            day.closed_at = day.closed_at or self.now
        elif day.closed_at is not None and total > used + raised and day.closed_at < call.at:
            day.closed_at, change = None, "reopened"
        return ("compared", raised, change, limit_to)

    def _follow_plan(self, day: Day, total: int) -> int | None:
        """Today's ledger never has more than ISBNdb sells, and gets it back when ISBNdb sells more again."""
        limits, wanted = day.limits, self.configured
        lowered_to = [seen.limit_to for seen in day.reconciliations if seen.limit_to is not None]
        if 1 <= total < limits.daily_limit:
            fitting, buffer = total, limits.safety_buffer
        elif (
            total > limits.daily_limit
            and lowered_to[-1:] == [limits.daily_limit]
            and (wanted.daily_limit > limits.daily_limit)
        ):
            fitting, buffer = min(total, wanted.daily_limit), wanted.safety_buffer
        else:
            return None
        if 2 * buffer > fitting:
            buffer = min(buffer, fitting * wanted.safety_buffer // wanted.daily_limit)
        limits.daily_limit, limits.safety_buffer = fitting, buffer
        return fitting

    # --- What must always hold

    def wrongs(self) -> list[str]:
        """What is not as it must be, in words: the sums of the ledgers, and no figure below 0."""
        found = []
        for when, day in self.days.items():
            journal: dict[str, int] = {}
            for call in self.journal:
                if call.day == when:
                    journal[call.consumer] = journal.get(call.consumer, 0) + call.calls
            held: dict[str, int] = {}
            for reservation in self.reservations:
                if reservation.day == when and reservation.state == "open":
                    held[reservation.consumer] = held.get(reservation.consumer, 0) + reservation.left
            for what, figures, rows in (("used", day.used, journal), ("reserved", day.reserved, held)):
                found += [
                    f"{what} by {slug} is {figures.get(slug, 0)}, its rows say {rows.get(slug, 0)}"
                    for slug in sorted(figures.keys() | rows.keys())
                    if figures.get(slug, 0) != rows.get(slug, 0)
                ]
                found += [f"{what} by {slug} is below 0" for slug, figure in figures.items() if figure < 0]
        return found

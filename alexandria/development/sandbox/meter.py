"""The counter of the sandbox: it counts the price of every request with the key, and records all requests."""

import json
import os
import threading
from collections import deque
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, time
from typing import Any

from alexandria.development.sandbox.plan import Plan

MAX_RECORDED = 100_000
DAYS_KEPT = 10


@dataclass(slots=True)
class Request:
    """One request outside `/_sandbox/`.

    `at` is when its first line was read, in seconds since 1970 on the sandbox's clock. `counted` means it had the key.
    `price` is the calls that it cost. `status` is None until the answer, and forever for a dropped request. `asked` and
    `found` are numbers of ISBNs, for `POST /books` only.
    """

    at: float
    method: str
    path: str
    query: str
    counted: bool
    price: int = 0
    status: int | None = None
    asked: int | None = None
    found: int | None = None


class Meter:
    """Counts calls by UTC day and applies the limits. Safe to use from many threads.

    `daily_limit` is in calls. `max_rps` is the number of requests in any one second, None for no limit. `state_file`
    keeps the counts over a restart; every call replaces it atomically. Raises ValueError if the file is invalid,
    OSError if it cannot be written.

    `most_in_a_second`: the most requests with the key in any one second, since the start or `set_max_rps`.
    """

    def __init__(self, daily_limit: int, max_rps: int | None, state_file: Path | None, plan: Plan) -> None:
        self.daily_limit = daily_limit
        self.max_rps = max_rps
        self.plan = plan
        self.offset_seconds = 0.0
        self.most_in_a_second = 0
        self._state_file = state_file
        self._spent = _read(state_file)
        self._requests: deque[Request] = deque(maxlen=MAX_RECORDED)
        self._history: deque[tuple[float, str, int]] = deque(
            ((0.0, day, calls) for day, calls in self._spent.items()), maxlen=MAX_RECORDED
        )
        self._last_second: deque[float] = deque()
        self._lock = threading.Lock()
        self._save()

    def now(self) -> float:
        """Seconds since 1970 on the sandbox's clock."""
        return time() + self.offset_seconds

    def day(self) -> str:
        """The UTC day on the sandbox's clock, for example `2025-12-31`."""
        return datetime.fromtimestamp(self.now(), UTC).date().isoformat()

    def count(self, request: Request, isbns: int | None) -> str:
        """Records a request, and counts its price if it has the key. Returns the limit it breaks: `daily`, `pace`, "".

        `isbns` is the number of ISBNs in a batch. A request is refused as a whole when its price passes the daily
        limit, and is counted all the same, unless the plan does not charge what has failed. A request that costs
        nothing passes no daily limit, and `GET /key` is answered above it.
        """
        with self._lock:
            self._requests.append(request)
            if not request.counted:
                return ""
            price, day = self.plan.price(request.method, request.path, isbns), self.day()
            spent, too_fast = self._spent.get(day, 0), self._too_fast()
            limit = "pace" if too_fast else ""
            if price and spent + price > self.daily_limit and not is_key(request):
                limit = "daily"
            if not limit or self.plan.charge_failed:
                request.price = price
                self._set_spent(day, spent + price)
            return limit

    def uncharge(self, request: Request) -> None:
        """Takes back the price of a request that has failed."""
        with self._lock:
            day = datetime.fromtimestamp(request.at, UTC).date().isoformat()
            self._set_spent(day, max(0, self._spent.get(day, 0) - request.price))
            request.price = 0

    def set_max_rps(self, max_rps: int | None) -> None:
        """Changes the limit of the pace, and begins to observe it again."""
        with self._lock:
            self.max_rps, self.most_in_a_second = max_rps, 0

    def _too_fast(self) -> bool:
        """Whether more than `max_rps` requests arrived in the last second. Changes of the clock do not affect it."""
        now = monotonic()
        while self._last_second and self._last_second[0] <= now - 1:
            self._last_second.popleft()
        self._last_second.append(now)
        self.most_in_a_second = max(self.most_in_a_second, len(self._last_second))
        return self.max_rps is not None and len(self._last_second) > self.max_rps

    def spent(self) -> int:
        """Calls counted today."""
        with self._lock:
            return self._spent.get(self.day(), 0)

    def reported(self) -> int:
        """Calls counted today, as far as `GET /key` knows of them."""
        with self._lock:
            day, known = self.day(), self.now() - self.plan.counter_lag
            if not self.plan.counter_lag:
                return self._spent.get(day, 0)
            return next((calls for at, of, calls in reversed(self._history) if of == day and at <= known), 0)

    def set_spent(self, calls: int) -> None:
        """Replaces the count of today."""
        with self._lock:
            self._set_spent(self.day(), calls)

    def _set_spent(self, day: str, calls: int) -> None:
        self._spent[day] = calls
        self._history.append((self.now(), day, calls))
        for old in sorted(self._spent)[:-DAYS_KEPT]:
            del self._spent[old]
        self._save()

    def _save(self) -> None:
        if self._state_file is not None:
            written = self._state_file.with_name(f"{self._state_file.name}.{os.getpid()}")
            written.write_text(json.dumps({"spent": self._spent}), encoding="utf-8")
            written.replace(self._state_file)

    def requests(self) -> list[dict[str, Any]]:
        """All recorded requests in the order of arrival, as the fields of `Request`."""
        with self._lock:
            return [asdict(request) for request in self._requests]


def is_key(request: Request) -> bool:
    return (request.method, request.path) == ("GET", "/key")


def _read(state_file: Path | None) -> dict[str, int]:
    if state_file is None or not state_file.exists():
        return {}
    try:
        spent = json.loads(state_file.read_text(encoding="utf-8"))["spent"]
        return {datetime.fromisoformat(day).date().isoformat(): int(calls) for day, calls in spent.items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{state_file} is not a state file of the sandbox.") from error

"""What ISBNdb counts: every request that carries the key, on arrival. And the record of all that arrived."""

import json
import os
import threading
from collections import deque
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, time
from typing import Any

_REMEMBERED = 100_000
_DAYS_KEPT = 10


@dataclass(slots=True)
class Request:
    """One request outside `/_sandbox/`.

    `at`: seconds since 1970 on the sandbox's clock, when its first line had been read. `counted`: it carried the key.
    `status`: None while under way, and for ever when it was dropped. `asked`, `found`: ISBNs, for `POST /books` alone.
    """

    at: float
    method: str
    path: str
    query: str
    counted: bool
    status: int | None = None
    asked: int | None = None
    found: int | None = None


class Meter:
    """Counts by UTC day and judges by the limits. Safe to use from many threads.

    `daily_limit`: calls a day. `max_rps`: requests in any one second, None for no limit. `state_file`: keeps the counts
    over a restart; written whole and then put in place at every call. Raises ValueError when it cannot be understood,
    OSError when it cannot be written.
    """

    def __init__(self, daily_limit: int, max_rps: int | None, state_file: Path | None) -> None:
        self.daily_limit = daily_limit
        self.max_rps = max_rps
        self.offset_seconds = 0.0
        self._state_file = state_file
        self._spent = _read(state_file)
        self._requests: deque[Request] = deque(maxlen=_REMEMBERED)
        self._last_second: deque[float] = deque()
        self._lock = threading.Lock()
        self._save()

    def now(self) -> float:
        """Seconds since 1970 on the sandbox's clock."""
        return time() + self.offset_seconds

    def day(self) -> str:
        """The UTC day on the sandbox's clock, as in `2025-12-31`."""
        return datetime.fromtimestamp(self.now(), UTC).date().isoformat()

    def count(self, request: Request) -> str:
        """Records an arrival, counts it if it has the key, and says what refuses it: `daily`, `pace` or nothing."""
        with self._lock:
            self._requests.append(request)
            if not request.counted:
                return ""
            day = self.day()
            self._set_spent(day, self._spent.get(day, 0) + 1)
            too_fast = self._too_fast()
            if self._spent[day] > self.daily_limit:
                return "daily"
            return "pace" if too_fast else ""

    def _too_fast(self) -> bool:
        """Whether more than `max_rps` came in the second that ends now. Clock changes make no difference to it."""
        now = monotonic()
        while self._last_second and self._last_second[0] <= now - 1:
            self._last_second.popleft()
        self._last_second.append(now)
        return self.max_rps is not None and len(self._last_second) > self.max_rps

    def spent(self) -> int:
        """Calls counted today."""
        with self._lock:
            return self._spent.get(self.day(), 0)

    def set_spent(self, calls: int) -> None:
        """Makes today's count another one."""
        with self._lock:
            self._set_spent(self.day(), calls)

    def _set_spent(self, day: str, calls: int) -> None:
        self._spent[day] = calls
        for old in sorted(self._spent)[:-_DAYS_KEPT]:
            del self._spent[old]
        self._save()

    def _save(self) -> None:
        if self._state_file is not None:
            written = self._state_file.with_name(f"{self._state_file.name}.{os.getpid()}")
            written.write_text(json.dumps({"spent": self._spent}), encoding="utf-8")
            written.replace(self._state_file)

    def requests(self) -> list[dict[str, Any]]:
        """All that arrived, in the order of arrival, as the fields of `Request`."""
        with self._lock:
            return [asdict(request) for request in self._requests]


def _read(state_file: Path | None) -> dict[str, int]:
    if state_file is None or not state_file.exists():
        return {}
    try:
        spent = json.loads(state_file.read_text(encoding="utf-8"))["spent"]
        return {datetime.fromisoformat(day).date().isoformat(): int(calls) for day, calls in spent.items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{state_file} is not a state file of the sandbox.") from error

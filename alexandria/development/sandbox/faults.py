"""Faults on demand: what goes wrong, for which requests, and how often."""

import threading
from dataclasses import asdict, dataclass, field
from typing import Any

KINDS = {
    "latency": "waits `seconds`, then continues as usual",
    "status": "answers `status` (503) with `body` and `headers`",
    "drop": "closes the connection without processing the request or answering",
    "drop_before_answer": "processes the request, then closes the connection without answering",
    "garbage": "answers 200 with `body`, by default HTML with the content type of JSON",
    "daily_limit": "answers as if the daily limit were reached; GET /key tells so, unless `path` is /key",
    "miscount": "GET /key tells `calls` more than it has counted (fewer if negative)",
    "truncate": "closes the connection in the middle of the answer",
    "redirect": "answers `status` (302); `headers` can have another Location",
    "drip": "sends the answer in twenty pieces over `seconds`",
}


@dataclass(slots=True)
class Fault:
    """What goes wrong. `times` is the number of requests, None for all. `path` is a prefix of the path, None for any.

    `body` is the text of the answer, or a value to send as JSON. `calls` is for `miscount`, which only meets /key.
    """

    kind: str
    times: int | None = None
    path: str | None = None
    seconds: float = 1.0
    status: int | None = None
    body: Any = None
    calls: int = 0
    headers: dict[str, str] = field(default_factory=dict)


class Faults:
    """The active faults, in the order in which they were added. Safe to use from many threads."""

    def __init__(self) -> None:
        self._rules: list[Fault] = []
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> None:
        with self._lock:
            self._rules.append(fault)

    def clear(self) -> None:
        with self._lock:
            self._rules.clear()

    def list(self) -> list[dict[str, Any]]:
        with self._lock:
            return [asdict(rule) for rule in self._rules]

    def meet(self, path: str) -> tuple[float, Fault | None]:
        """What happens to a request: the latency of all faults together, and the first fault of another kind."""
        seconds, met = 0.0, None
        with self._lock:
            for rule in self._rules:
                prefix = "/key" if rule.kind == "miscount" else rule.path or ""
                if not path.startswith(prefix) or (met and rule.kind != "latency"):
                    continue
                if rule.kind == "latency":
                    seconds += rule.seconds
                else:
                    met = rule
                if rule.times is not None:
                    rule.times -= 1
            self._rules = [rule for rule in self._rules if rule.times != 0]
        return seconds, met

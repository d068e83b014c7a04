"""What the plan charges, how it says that a limit is reached, and how its counter behaves."""

from dataclasses import dataclass
from math import ceil
from typing import Any

BATCH_PRICES = ("request", "isbn")
PER_MINUTE = {"message": "Per minute quota exceeded"}
LIMIT_ANSWERS: dict[str, tuple[int, dict[str, str]]] = {
    "429-daily-quota": (429, {"message": "Daily quota exceeded"}),
    "429-limit-exceeded": (429, {"message": "Limit Exceeded"}),
    "403-daily-hits": (403, {"message": "daily hits reached"}),
    "403-daily-quota": (403, {"message": "Daily quota exceeded"}),
    "404-not-found": (404, {"errorMessage": "Not Found"}),
}
"""Every answer that was seen in the field above the daily limit."""

RATE_HEADERS = {
    "retry-after": "Retry-After: 36000 (only when a limit is reached)",
    "ratelimit": 'RateLimit: "daily";r=0;t=36000, "pace";r=1;t=1',
    "ratelimit-old": "RateLimit: limit=15000, remaining=0, reset=36000",
    "reset-seconds": "X-RateLimit-Reset: 36000",
    "reset-epoch": "X-RateLimit-Reset: 1767139200",
}
DAY = 86_400
PACE_SECONDS = 1


@dataclass(frozen=True, slots=True)
class Plan:
    """The terms of a plan. The default is ISBNdb's contract.

    `batch_price`: a batch costs a call for each requested ISBN ("isbn"), or one call ("request").
    `key_price` and `feed_price`: what `GET /key` and a page of the feed of updates cost.
    `limit_answer`: one of LIMIT_ANSWERS, the answer above the daily limit. "Limit Exceeded" also answers what is too
    fast.
    `rate_headers`: some of RATE_HEADERS, sent with every answer except 401; Retry-After only when a limit is reached.
    `counter_lag`: `GET /key` tells the count of so many seconds ago.
    `charge_failed`: whether 429, 5xx and refusals above the daily limit cost their price.
    """

    batch_price: str = "isbn"
    key_price: int = 1
    feed_price: int = 0
    limit_answer: str = "429-daily-quota"
    rate_headers: tuple[str, ...] = ()
    counter_lag: float = 0.0
    charge_failed: bool = True

    def price(self, method: str, path: str, isbns: int | None) -> int:
        """The calls that a request costs. `isbns` is the number in a batch, None if there is no readable one."""
        match method, path:
            case "POST", "/books" if isbns is not None and self.batch_price == "isbn":
                return max(1, isbns)
            case "GET", "/key":
                return self.key_price
            case "GET", "/feeds/books/updates":
                return self.feed_price
            case _:
                return 1

    def refusal(self, limit: str) -> tuple[int, Any]:
        """The status and the body for a limit that is reached: `daily` or `pace`."""
        if limit == "pace" and self.limit_answer != "429-limit-exceeded":
            return 429, PER_MINUTE
        return LIMIT_ANSWERS[self.limit_answer]

    def headers(self, *, limit: str, now: float, daily_limit: int, left: int, max_rps: int | None) -> dict[str, str]:
        """The rate headers of an answer at `now`. `limit` is the reached limit, or ""."""
        to_midnight = ceil(DAY - now % DAY)
        seconds = PACE_SECONDS if limit == "pace" else to_midnight
        pace = 0 if limit == "pace" else 1
        found: dict[str, str] = {}
        if "retry-after" in self.rate_headers and limit:
            found["Retry-After"] = str(seconds)
        if "ratelimit" in self.rate_headers:
            found["RateLimit"] = f'"daily";r={left};t={to_midnight}, "pace";r={pace};t={PACE_SECONDS}'
        elif "ratelimit-old" in self.rate_headers:
            total, remaining = (max_rps or 0, 0) if limit == "pace" else (daily_limit, left)
            found["RateLimit"] = f"limit={total}, remaining={remaining}, reset={seconds}"
        if "reset-seconds" in self.rate_headers:
            found["X-RateLimit-Reset"] = str(seconds)
        elif "reset-epoch" in self.rate_headers:
            found["X-RateLimit-Reset"] = str(int(now) + seconds)
        return found

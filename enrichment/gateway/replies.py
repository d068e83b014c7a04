"""What ISBNdb's answers mean, and which parts of them may be shown."""

import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import httpx2
from django.conf import settings

from enrichment.exceptions import IsbndbError, IsbndbKeyRefused, IsbndbNotFound, IsbndbRefused, IsbndbUnavailable
from quota.exceptions import QuotaRefused
from quota.models import Call
from quota.selectors.status import begin_of
from quota.services.reservations import DispatchedCall

TOO_FAST_PAUSE_SECONDS = 1.0  # when ISBNdb does not say how long
MAX_PAUSE_SECONDS = 900.0  # the longest pause of all workers that one answer can cause
FIRST_MOMENT = 1_000_000_000  # a larger number of seconds in a header is a moment, counted from 1970
_OF_THE_DAY = re.compile(r"\bdaily (quota|limit|hits|calls|requests)\b.{0,40}\b(exceeded|reached|used up)\b", re.DOTALL)
_OF_THE_PACE = re.compile(r"\b(per|a) (minute|second)\b|\btoo fast\b")
_ITEM = re.compile(r'"[^"]*"(?:\s*;\s*[a-z]+=[^;,]*)+')
_PARAMETER = re.compile(r"\b([a-z]+)\s*=\s*(\d+)", re.ASCII)


@dataclass(frozen=True)
class Reply:
    """An answer with its decompressed body."""

    status: int
    headers: httpx2.Headers
    body: bytes

    def text(self) -> str:
        """The answer for the journal: the target of a redirect, and the beginning of the body.

        It has no NUL, which PostgreSQL cannot store. The key is masked before the text is cut: otherwise a part of the
        key could remain at the end.
        """
        to = self.headers.get("Location")
        body = self.body.decode(errors="replace").replace("\0", "")
        return without_key(f"Location: {to}\n{body}" if to else body)[:1000]

    def retry_after(self) -> float | None:
        """Seconds from either form of the header (RFC 9110, section 10.2.3), at most MAX_PAUSE_SECONDS."""
        return _seconds_until(self.headers.get("Retry-After", ""))

    def pause(self, waited: float = 0.0) -> float:
        """Seconds to wait before the next request, when requests come too fast. `waited`: seconds since the answer.

        The headers are Retry-After, RateLimit in the form of either draft, and X-RateLimit-Reset.
        """
        said = (self.retry_after(), self._rate_limit(), self._rate_limit_reset())
        return max(0.0, next((seconds for seconds in said if seconds), TOO_FAST_PAUSE_SECONDS) - waited)

    def names_day(self) -> bool:
        """Whether the words of the answer say that the limit of the day is reached."""
        words = self.text().lower()
        return bool(_OF_THE_DAY.search(words)) or (
            self.status == 403 and "quota exceeded" in words and not self.names_pace()
        )

    def names_pace(self) -> bool:
        """Whether the words of the answer say that requests come too fast."""
        return bool(_OF_THE_PACE.search(self.text().lower()))

    def _rate_limit(self) -> float | None:
        """The longest wait of the limits that are used up: `"daily";r=0;t=9`, or (older) `remaining=0, reset=9`."""
        value = self.headers.get("RateLimit", "")
        items = [dict(_PARAMETER.findall(item)) for item in _ITEM.findall(value)] or [dict(_PARAMETER.findall(value))]
        waits = [
            _seconds_until(item.get("t") or item.get("reset") or "")
            for item in items
            if float(item.get("r") or item.get("remaining") or 0) == 0
        ]
        return max((seconds for seconds in waits if seconds is not None), default=None)

    def _rate_limit_reset(self) -> float | None:
        if self.headers.get("X-RateLimit-Remaining", "0").strip() != "0":
            return None
        return _seconds_until(self.headers.get("X-RateLimit-Reset", ""))


def judge(  # noqa: PLR0911 (a list of cases)
    call: DispatchedCall, reply: Reply, *, waited: float = 0.0
) -> tuple[Call.Outcome, IsbndbError | QuotaRefused]:
    """The outcome of an answer other than 200, and the exception to raise.

    An unclear answer (`settling.is_unclear`) is judged as if calls were left. `waited`: see `Reply.pause`.
    """
    names_day, names_pace = reply.names_day(), reply.names_pace()
    if reply.status in {403, 429} and names_day and not names_pace:
        return day_over(call)
    if reply.status == 429 or (reply.status == 403 and names_pace and not names_day):
        return Call.Outcome.TOO_FAST, IsbndbUnavailable(
            "ISBNdb answered that requests come too fast.", retry_after=reply.pause(waited), status=429
        )
    if reply.status >= 500:
        message = f"ISBNdb failed with status {reply.status}."
        failure = IsbndbUnavailable(message, retry_after=reply.retry_after(), status=reply.status)
        return Call.Outcome.SERVER_ERROR, failure
    if reply.status == 404:
        return Call.Outcome.NOT_FOUND, IsbndbNotFound("ISBNdb does not know what it was asked for (status 404).")
    if reply.status in {401, 403}:
        said = f"ISBNdb does not accept our key for this (status {reply.status})."
        return Call.Outcome.REFUSED, IsbndbKeyRefused(f"{said} Check ISBNDB_API_KEY, and what our plan includes.")
    if 300 <= reply.status < 400:
        return Call.Outcome.REFUSED, IsbndbRefused(
            "ISBNdb redirected the request to another address. Check ISBNDB_BASE_URL."
        )
    return Call.Outcome.REFUSED, IsbndbRefused(
        f"ISBNdb refused the request with status {reply.status}.", status=reply.status
    )


def day_over(call: DispatchedCall) -> tuple[Call.Outcome, QuotaRefused]:
    """The outcome of an answer which means that ISBNdb's day is used up, and the exception to raise."""
    return Call.Outcome.QUOTA_EXCEEDED, QuotaRefused(limit="day_closed", asked=1, free=0, retry_at=after_midnight(call))


def _seconds_until(value: str) -> float | None:
    """At most MAX_PAUSE_SECONDS until what a header says: seconds, a moment in seconds since 1970, or a date."""
    value = value.strip()
    if re.fullmatch(r"\d+(\.\d+)?", value, re.ASCII):
        seconds = float(value)
        seconds -= time.time() if seconds >= FIRST_MOMENT else 0
        return min(max(0.0, seconds), MAX_PAUSE_SECONDS)
    for parse in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            moment = parse(value)
        except ValueError:
            continue
        seconds = (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
        return min(max(0.0, seconds), MAX_PAUSE_SECONDS)
    return None


def after_midnight(call: DispatchedCall) -> datetime:
    return begin_of(call.day + timedelta(days=1))


def without_key(text: str) -> str:
    """Masks the key. ISBNdb can repeat it, but the journal, the log and our answers must not."""
    return text.replace(settings.ISBNDB_API_KEY, "<key>") if settings.ISBNDB_API_KEY else text

"""What ISBNdb's answers mean, and what of them may be repeated."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import httpx2
from django.conf import settings

from enrichment.exceptions import IsbndbError, IsbndbNotFound, IsbndbRefused, IsbndbUnavailable
from quota.exceptions import QuotaRefused
from quota.models import Call
from quota.selectors.status import begin_of
from quota.services.reservations import DispatchedCall

TOO_FAST_PAUSE_SECONDS = 1.0  # seconds, when ISBNdb does not say how long
MAX_PAUSE_SECONDS = 900.0  # seconds for which ISBNdb can stop the whole fleet with one answer


@dataclass(frozen=True)
class Reply:
    """An answer, its body unpacked."""

    status: int
    headers: httpx2.Headers
    body: bytes

    def text(self) -> str:
        """Fit for the journal: where it sends us, if it does, and the beginning of the body.

        Without NUL, which PostgreSQL does not store, and our key; masked before it is cut, lest half the key be left.
        """
        to = self.headers.get("Location")
        body = self.body.decode(errors="replace").replace("\0", "")
        return without_key(f"Location: {to}\n{body}" if to else body)[:1000]

    def retry_after(self) -> float | None:
        """Seconds, MAX_PAUSE_SECONDS at the most, from either form of the header (RFC 9110, section 10.2.3)."""
        value = self.headers.get("Retry-After", "").strip()
        if value.isascii() and value.isdigit():
            return min(float(value), MAX_PAUSE_SECONDS)
        try:
            moment = parsedate_to_datetime(value)
        except ValueError:
            return None
        seconds = (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
        return min(max(0.0, seconds), MAX_PAUSE_SECONDS)

    def pause(self) -> float:
        """Seconds for which it wants us to be slower."""
        return self.retry_after() or TOO_FAST_PAUSE_SECONDS


def judge(  # noqa: PLR0911 (one case after the other)
    call: DispatchedCall, reply: Reply
) -> tuple[Call.Outcome, IsbndbError | QuotaRefused]:
    """What an answer other than 200 means, and what to raise for it."""
    if _is_daily_limit(reply):
        refusal = QuotaRefused(limit="day_closed", asked=1, free=0, retry_at=after_midnight(call))
        return Call.Outcome.QUOTA_EXCEEDED, refusal
    if reply.status == 429:
        return Call.Outcome.TOO_FAST, IsbndbUnavailable("ISBNdb finds us too fast.", retry_after=reply.pause())
    if reply.status >= 500:
        message = f"ISBNdb failed with status {reply.status}."
        failure = IsbndbUnavailable(message, retry_after=reply.retry_after(), status=reply.status)
        return Call.Outcome.SERVER_ERROR, failure
    if reply.status == 404:
        return Call.Outcome.NOT_FOUND, IsbndbNotFound("ISBNdb knows nothing of that name.")
    if reply.status in {401, 403}:
        return Call.Outcome.REFUSED, IsbndbRefused(f"ISBNdb does not accept our key (status {reply.status}).")
    if 300 <= reply.status < 400:
        return Call.Outcome.REFUSED, IsbndbRefused("ISBNdb redirects us elsewhere: check ISBNDB_BASE_URL.")
    return Call.Outcome.REFUSED, IsbndbRefused(f"ISBNdb refused the request with status {reply.status}.")


def _is_daily_limit(reply: Reply) -> bool:
    """ISBNdb says "Daily quota exceeded" with 429 or, on some plans, 403; "Per minute quota exceeded" is the pace."""
    words = reply.text().lower()
    return (reply.status in {403, 429} and "daily quota" in words) or (
        reply.status == 403 and "quota exceeded" in words and "per minute" not in words
    )


def after_midnight(call: DispatchedCall) -> datetime:
    return begin_of(call.day + timedelta(days=1))


def without_key(text: str) -> str:
    """ISBNdb may repeat our key; neither the journal nor the log nor our answers may."""
    return text.replace(settings.ISBNDB_API_KEY, "<key>") if settings.ISBNDB_API_KEY else text

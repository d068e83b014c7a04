"""What ISBNdb's answers mean, and which parts of them may be shown."""

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

TOO_FAST_PAUSE_SECONDS = 1.0  # when ISBNdb does not say how long
MAX_PAUSE_SECONDS = 900.0  # the longest pause of all workers that one answer can cause


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
        """Seconds to wait before the next request."""
        return self.retry_after() or TOO_FAST_PAUSE_SECONDS


def judge(  # noqa: PLR0911 (a list of cases)
    call: DispatchedCall, reply: Reply
) -> tuple[Call.Outcome, IsbndbError | QuotaRefused]:
    """The outcome of an answer other than 200, and the exception to raise."""
    if _is_daily_limit(reply):
        refusal = QuotaRefused(limit="day_closed", asked=1, free=0, retry_at=after_midnight(call))
        return Call.Outcome.QUOTA_EXCEEDED, refusal
    if reply.status == 429:
        return Call.Outcome.TOO_FAST, IsbndbUnavailable(
            "ISBNdb answered that requests come too fast.", retry_after=reply.pause()
        )
    if reply.status >= 500:
        message = f"ISBNdb failed with status {reply.status}."
        failure = IsbndbUnavailable(message, retry_after=reply.retry_after(), status=reply.status)
        return Call.Outcome.SERVER_ERROR, failure
    if reply.status == 404:
        return Call.Outcome.NOT_FOUND, IsbndbNotFound("ISBNdb does not know that name.")
    if reply.status in {401, 403}:
        return Call.Outcome.REFUSED, IsbndbRefused(
            f"ISBNdb does not accept our key (status {reply.status}). Check ISBNDB_API_KEY."
        )
    if 300 <= reply.status < 400:
        return Call.Outcome.REFUSED, IsbndbRefused(
            "ISBNdb redirected the request to another address. Check ISBNDB_BASE_URL."
        )
    return Call.Outcome.REFUSED, IsbndbRefused(f"ISBNdb refused the request with status {reply.status}.")


def _is_daily_limit(reply: Reply) -> bool:
    """Whether the daily quota is used up: "Daily quota exceeded" with 429 or, on some plans, 403.

    "Per minute quota exceeded" is about the pace.
    """
    words = reply.text().lower()
    return (reply.status in {403, 429} and "daily quota" in words) or (
        reply.status == 403 and "quota exceeded" in words and "per minute" not in words
    )


def after_midnight(call: DispatchedCall) -> datetime:
    return begin_of(call.day + timedelta(days=1))


def without_key(text: str) -> str:
    """Masks the key. ISBNdb can repeat it, but the journal, the log and our answers must not."""
    return text.replace(settings.ISBNDB_API_KEY, "<key>") if settings.ISBNDB_API_KEY else text

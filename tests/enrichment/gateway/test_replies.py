"""What the words and the headers of an answer say: the end of the day, the pace, and how long to wait."""

import time
import uuid
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime

import httpx2
import pytest

from enrichment.exceptions import IsbndbUnavailable
from enrichment.gateway.replies import MAX_PAUSE_SECONDS, TOO_FAST_PAUSE_SECONDS, Reply, judge
from quota.services.reservations import DispatchedCall


def reply(status: int = 429, words: str = "Limit Exceeded", headers: dict[str, str] | None = None) -> Reply:
    return Reply(status, httpx2.Headers(headers or {}), words.encode())


@pytest.mark.parametrize(
    ("status", "words", "names"),
    [
        (429, "Daily quota exceeded", (True, False)),
        (403, "Daily quota exceeded", (True, False)),
        (403, "daily hits reached", (True, False)),
        (429, "Your daily limit of 15,000 calls is reached.", (True, False)),
        (403, "Quota exceeded", (True, False)),
        (429, "Quota exceeded", (False, False)),
        (429, "Per minute quota exceeded", (False, True)),
        (403, "Per minute quota exceeded", (False, True)),
        (429, "Limit Exceeded", (False, False)),
        (429, "Too Many Requests", (False, False)),
        (403, "Forbidden", (False, False)),
        (403, "The daily limit of your plan does not include this endpoint.", (False, False)),
        (429, "Daily quota exceeded. Or per minute, who knows?", (True, True)),
    ],
)
def test_the_words_name_the_day_or_the_pace_or_neither(status: int, words: str, names: tuple[bool, bool]) -> None:
    said = reply(status, words)
    assert (said.names_day(), said.names_pace()) == names


IN_A_MINUTE = datetime.now(UTC) + timedelta(seconds=60)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, TOO_FAST_PAUSE_SECONDS),
        ({"Retry-After": "7"}, 7),
        ({"Retry-After": "0"}, TOO_FAST_PAUSE_SECONDS),
        ({"Retry-After": "soon"}, TOO_FAST_PAUSE_SECONDS),
        ({"Retry-After": "7", "RateLimit": '"pace";r=0;t=9'}, 7),
        ({"RateLimit": '"pace";r=0;t=9'}, 9),
        ({"RateLimit": '"daily";r=4544;t=36000, "pace";r=0;t=9'}, 9),
        ({"RateLimit": '"a, b;t=3";r=0;t=9'}, 9),
        ({"RateLimit": '"pace";t=9;r=0'}, 9),
        ({"RateLimit": '"daily";r=4544;t=36000, "pace";r=1;t=9'}, TOO_FAST_PAUSE_SECONDS),
        ({"RateLimit": "limit=100, remaining=0, reset=50"}, 50),
        ({"RateLimit": "limit=100, remaining=3, reset=50"}, TOO_FAST_PAUSE_SECONDS),
        ({"RateLimit": "nonsense"}, TOO_FAST_PAUSE_SECONDS),
        ({"X-RateLimit-Reset": "12"}, 12),
        ({"X-RateLimit-Reset": "12", "X-RateLimit-Remaining": "3"}, TOO_FAST_PAUSE_SECONDS),
        ({"X-RateLimit-Reset": "12", "X-RateLimit-Remaining": "0"}, 12),
        ({"RateLimit": '"pace";r=0;t=9', "X-RateLimit-Reset": "12"}, 9),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, TOO_FAST_PAUSE_SECONDS),
        ({"Retry-After": "Thu, 21 Oct 2049 07:28:00 GMT"}, MAX_PAUSE_SECONDS),
        ({"Retry-After": "36000"}, MAX_PAUSE_SECONDS),
        ({"RateLimit": '"daily";r=0;t=36000'}, MAX_PAUSE_SECONDS),
        ({"RateLimit": "remaining=0, reset=36000"}, MAX_PAUSE_SECONDS),
        ({"X-RateLimit-Reset": "36000"}, MAX_PAUSE_SECONDS),
        ({"X-RateLimit-Reset": "9" * 500}, MAX_PAUSE_SECONDS),
        ({"X-RateLimit-Reset": "1000000001"}, TOO_FAST_PAUSE_SECONDS),
    ],
    ids=str,
)
def test_the_pause_is_what_the_headers_say_within_bounds(headers: dict[str, str], seconds: float) -> None:
    assert reply(headers=headers).pause() == seconds


@pytest.mark.parametrize("name", ["Retry-After", "X-RateLimit-Reset"])
@pytest.mark.parametrize("form", ["epoch", "http", "iso", "iso without a zone", "iso of another zone"])
def test_a_header_can_say_a_moment(name: str, form: str) -> None:
    in_a_minute = datetime.now(UTC) + timedelta(seconds=60)
    forms = {
        "epoch": str(int(time.time()) + 60),
        "http": format_datetime(in_a_minute, usegmt=True),
        "iso": in_a_minute.isoformat(),
        "iso without a zone": in_a_minute.replace(tzinfo=None).isoformat(),
        "iso of another zone": in_a_minute.astimezone(timezone(timedelta(hours=5))).isoformat(),
    }
    assert 55 < reply(headers={name: forms[form]}).pause() <= 60


@pytest.mark.parametrize(("header", "seconds"), [({"Retry-After": "7"}, 7), ({"Retry-After": "0"}, 0), ({}, None)])
def test_a_failure_of_isbndb_says_how_long_to_wait(header: dict[str, str], seconds: float | None) -> None:
    now = datetime.now(UTC)
    call = DispatchedCall(
        id=1, price=1, reservation=uuid.uuid4(), day=now.date(), send_at=now, send_after=0, send_before=0
    )
    outcome, failure = judge(call, reply(503, "Down for maintenance", header))
    assert outcome == "server_error"
    assert isinstance(failure, IsbndbUnavailable)
    assert failure.retry_after == seconds


def test_the_time_since_the_answer_is_a_part_of_the_pause() -> None:
    said = reply(headers={"Retry-After": "7"})
    assert said.pause(waited=5) == 2
    assert said.pause(waited=8) == 0

"""Slows down who guesses passwords: after some failures there is a pause, which doubles with each further one.

The failures of a user and those of an address count, whichever pause is longer. An address from which the user has
logged in before counts alone: strangers who guess cannot keep the user out.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.contrib.auth.models import User
from django.db import connection, transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.crypto import salted_hmac

from alexandria.logins.models import LogIn

COUNTED = timedelta(days=1)
"""Failures count for so long."""

KNOWN = timedelta(days=30)
"""An address counts as the user's own for so long after a log-in. Rows are kept for as long."""

_ONE_AT_A_TIME = 1_279_872_590
"""The lock of PostgreSQL under which an attempt is checked and put on record: guesses at once count each other."""

FIRST_PAUSE = timedelta(seconds=2)
MAX_PAUSE = timedelta(minutes=15)


@dataclass(frozen=True)
class _Limit:
    """`free`: the number of failures without a pause."""

    free: int

    def pause_after(self, failures: int) -> timedelta:
        doublings = failures - self.free
        return timedelta() if doublings < 0 else min(MAX_PAUSE, FIRST_PAUSE * (1 << min(doublings, 20)))


OF_USER = _Limit(free=5)
OF_ADDRESS = _Limit(free=20)
"""More people can have one address."""


class LogInPaused(Exception):
    """There were too many failures. `seconds`: until the next try."""

    def __init__(self, seconds: int) -> None:
        self.seconds = seconds
        super().__init__(f"Too many log-ins have failed. Try again in {seconds} s.")


def begin(*, username: str, address: str) -> LogIn:
    """Puts an attempt on record as failed, before its password is checked: others that come meanwhile count it.

    Raises LogInPaused; then nothing is on record.
    """
    username = _on_record(username)
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_ONE_AT_A_TIME])
        now = timezone.now()
        if (until := _paused_until(username, address, now)) > now:
            raise LogInPaused(max(1, -int((now - until).total_seconds() // 1)))
        return LogIn.objects.create(at=now, username=username, address=address)


def succeed(attempt: LogIn) -> None:
    """The password was right. The failures of the user before it count no more."""
    attempt.succeeded = True
    attempt.save(update_fields=["succeeded"])


def prune_log_ins() -> int:
    """Deletes the attempts that are older than KNOWN. Returns how many."""
    deleted, _ = LogIn.objects.filter(at__lt=timezone.now() - KNOWN).delete()
    return deleted


def failures_since(moment: datetime) -> int:
    return LogIn.objects.filter(at__gt=moment, succeeded=False).count()


def _on_record(username: str) -> str:
    """The name of a user. Of a text that is no such name, a hash with our SECRET_KEY: it may be a password.

    One text always has one hash, so whoever guesses with it has to wait as for a user. Otherwise the pause would tell
    which users there are.
    """
    if User.objects.filter(username=username).exists():
        return username
    return f"unknown {salted_hmac('alexandria.logins', username, algorithm='sha256').hexdigest()[:16]}"


def _paused_until(username: str, address: str, now: datetime) -> datetime:
    of_user = LogIn.objects.filter(username=username)
    last_success = of_user.filter(succeeded=True).values_list("at", flat=True).first()
    of_address = LogIn.objects.filter(address=address, at__gt=now - COUNTED)
    if of_user.filter(address=address, succeeded=True, at__gt=now - KNOWN).exists():
        of_user = of_user.filter(address=address)
    since = max(now - COUNTED, last_success or now - COUNTED)
    return max(_end_of_pause(of_user.filter(at__gt=since), OF_USER, now), _end_of_pause(of_address, OF_ADDRESS, now))


def _end_of_pause(attempts: QuerySet[LogIn], limit: _Limit, now: datetime) -> datetime:
    times = list(attempts.filter(succeeded=False).order_by("-at").values_list("at", flat=True)[: limit.free + 21])
    return times[0] + limit.pause_after(len(times)) if times else now

"""Lets one of all threads and processes ask ISBNdb for something, while the others wait for the stored answer.

Who asks has a row for each subject, with a lease that a thread renews. When the process dies, the lease ends, and one
of those who wait asks instead. Without this, a new ISBN that is wanted twelve times at once costs up to twelve calls.

docs/isbndb.md says who takes part.
"""

import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from time import monotonic, sleep

from django.db import connection
from django.db.models.functions import Now

from alexandria.common.database import OUT_OF_REACH
from alexandria.common.heartbeats import heartbeats
from enrichment.exceptions import IsbndbTimeout
from enrichment.models import ListedAuthor, OpenQuestion
from enrichment.selectors.books import LISTED_FOR

LEASE = timedelta(seconds=15)
RENEW_EVERY = timedelta(seconds=4)

MAX_WAIT_SECONDS = 50.0
"""How long somebody waits for the answers of others: many proxies wait for 60 seconds."""

LOOK_EVERY_SECONDS = (0.05, 0.5)
"""The first and the longest pause between two looks at what is still asked."""

# The rows are in the order of subjects, so two who claim the same ones never wait for each other.
_CLAIM = """
    INSERT INTO enrichment_openquestion AS question (subject, asker, until)
    SELECT subject, %(asker)s, clock_timestamp() + make_interval(secs => %(lease)s)
    FROM unnest(%(subjects)s::text[]) AS subject ORDER BY subject
    ON CONFLICT (subject) DO UPDATE SET asker = excluded.asker, until = excluded.until
    WHERE question.until <= clock_timestamp()
    RETURNING subject"""
_RENEW = """
    UPDATE enrichment_openquestion SET until = clock_timestamp() + make_interval(secs => %(lease)s)
    WHERE asker = %(asker)s"""
_END = "DELETE FROM enrichment_openquestion WHERE asker = %(asker)s"
_STILL_ASKED = """
    SELECT count(*) FROM enrichment_openquestion WHERE subject = ANY(%(subjects)s) AND until > clock_timestamp()"""
_SECONDS_LEFT = """
    SELECT extract(epoch FROM until - clock_timestamp()) FROM enrichment_openquestion WHERE subject = %(subject)s"""


@contextmanager
def asking(subjects: Collection[str]) -> Iterator[set[str]]:
    """Yields those of the subjects that nobody else asks for. Until the block ends, nobody else is given them.

    Somebody may have got the answer just before: look again at what is stored.
    """
    asker = uuid.uuid4()
    if not (mine := claim(subjects, asker=asker, lease=LEASE)):
        yield mine
        return
    try:
        with heartbeats(partial(_renew, asker), every=RENEW_EVERY):
            yield mine
    finally:
        end(asker)


def claim(subjects: Collection[str], *, asker: uuid.UUID, lease: timedelta) -> set[str]:
    """Claims those of the subjects that nobody asks for now. Returns them."""
    with connection.cursor() as cursor:
        cursor.execute(_CLAIM, {"subjects": sorted(set(subjects)), "asker": asker, "lease": lease.total_seconds()})
        return {subject for (subject,) in cursor.fetchall()}


def end(asker: uuid.UUID) -> None:
    """Ends all claims of this asker. When the database is out of reach, their leases end them."""
    with suppress(*OUT_OF_REACH):
        _run(_END, asker=asker)


def prune_questions() -> None:
    """Deletes what dead processes have asked, and listings of authors that say nothing any more."""
    OpenQuestion.objects.filter(until__lt=Now() - LISTED_FOR).delete()
    ListedAuthor.objects.filter(listed_at__lt=Now() - LISTED_FOR).delete()


def seconds_left(subject: str) -> float:
    """How long the claim of a subject still lasts; 0 when there is none."""
    with connection.cursor() as cursor:
        cursor.execute(_SECONDS_LEFT, {"subject": subject})
        row = cursor.fetchone()
    return max(0.0, float(row[0])) if row else 0.0


def wait_for_others(subjects: Collection[str], *, until: float) -> None:
    """Waits until nobody asks for any of the subjects, without a database connection.

    `until`: a time of the monotonic clock. Raises IsbndbTimeout then.
    """
    pause, longest = LOOK_EVERY_SECONDS
    while _are_asked(subjects):
        if monotonic() > until:
            raise IsbndbTimeout("Another request asks ISBNdb for the same, and has no answer yet.")
        if not connection.in_atomic_block:
            connection.close()
        sleep(pause)
        pause = min(2 * pause, longest)


def _are_asked(subjects: Collection[str]) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(_STILL_ASKED, {"subjects": list(subjects)})
        return bool(cursor.fetchone()[0])


def _renew(asker: uuid.UUID) -> bool:
    _run(_RENEW, asker=asker)
    return True


def _run(sql: str, *, asker: uuid.UUID) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql, {"asker": asker, "lease": LEASE.total_seconds()})

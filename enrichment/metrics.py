"""Metrics of books, the queue and jobs. docs/monitoring.md explains each."""

from collections.abc import Iterator
from datetime import datetime

from django.db.models import Count
from prometheus_client.core import Metric

from enrichment.books.aside import answers_aside, bad_answers
from enrichment.models import Edition, Job, JobAuthor
from enrichment.selectors.queue import get_queue
from enrichment.selectors.stats import number_of_rows
from quota.database import reachable
from quota.metrics import counters, gauge, gauges
from quota.selectors.status import begin_of


def collect() -> Iterator[Metric]:
    """Reads the tables. Raises QuotaUnavailable."""
    queue = get_queue()
    now = queue.quota.now
    waiting = (([priority], count) for priority, count in queue.by_priority.items())
    yield gauges("queue_isbns", "ISBNs that wait in the queue, including those under way.", ["priority"], waiting)
    yield gauge("queue_under_way", "ISBNs of the queue in a batch that is being sent.", queue.under_way)
    yield gauge("queue_failed", "ISBNs of the queue that have used all their attempts.", queue.failed)
    yield gauge(
        "queue_oldest_seconds", "Age of the oldest ISBN that waits; 0 without one.", queue.oldest_age_seconds or 0
    )
    for name, moment, what in (
        ("looked", queue.looked_at, "a worker last looked at the queue"),
        ("flushed", queue.flushed_at, "ISBNdb last answered a batch of the queue"),
    ):
        rows: list[tuple[list[str], float]] = [([], max(0.0, (now - moment).total_seconds()))] if moment else []
        yield gauges(f"queue_{name}_seconds", f"Seconds since {what}.", [], rows)
    with reachable():
        yield gauge(
            "editions", "Stored books. Above 100,000, PostgreSQL's estimate.", number_of_rows(Edition.objects.all())[0]
        )
        yield from _jobs(begin_of(queue.quota.day))


def collect_from_files() -> Iterator[Metric]:
    """Reads the folder of the answers. It needs no database: without one, it is what counts."""
    rows = ((["waiting"], answers_aside()), (["bad"], bad_answers()))
    yield gauges("answers_aside", "Paid answers that are not in the database yet, by state.", ["state"], rows)


def _jobs(today: datetime) -> Iterator[Metric]:
    jobs = Job.objects.filter(ended_at=None).order_by().values_list("kind", "state").annotate(Count("pk"))
    under_way = {(kind, state): count for kind, state, count in jobs}
    states = (Job.State.QUEUED, Job.State.RUNNING, Job.State.WAITING, Job.State.PAUSED)
    rows = (([kind.value, state.value], under_way.get((kind, state), 0)) for kind in Job.Kind for state in states)
    yield gauges("jobs", "Jobs that have not ended.", ["kind", "state"], rows)
    of_jobs = JobAuthor.objects.filter(job__ended_at=None).order_by().values_list("state").annotate(Count("pk"))
    authors = dict(of_jobs)
    rows = (([state.value], authors.get(state, 0)) for state in JobAuthor.State)
    yield gauges("job_authors", "Authors of the jobs that have not ended, by state.", ["state"], rows)
    ended = Job.objects.filter(ended_at__gte=today).order_by().values_list("kind", "state").annotate(Count("pk"))
    yield counters(
        "jobs_ended", "Jobs that ended today.", ["kind", "state"], ((labels, jobs) for *labels, jobs in ended)
    )

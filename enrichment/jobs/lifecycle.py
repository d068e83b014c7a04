"""Creating, cancelling, retrying and resuming jobs. `workers` does the work. See docs/jobs.md.

A job is long work that continues after the answer.
"""

import hashlib
import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from typing import Any

import structlog
from django.core.serializers.json import DjangoJSONEncoder
from django.db import transaction

from alexandria.common.publishing import OUT_OF_REACH, messages_waiting
from enrichment.exceptions import (
    AlreadyBegun,
    AlreadyFinished,
    IdempotencyKeyReused,
    JobEnded,
    JobNotPaused,
    NothingToRetry,
)
from enrichment.jobs.claims import QUEUE, due, pause, pause_abandoned, refuse_second, send_message, send_to_worker
from enrichment.jobs.ending import cancel
from enrichment.jobs.kinds import authors
from enrichment.jobs.limits import check_limits, hold_limits
from enrichment.jobs.registry import handler_of
from enrichment.models import Job
from enrichment.models.jobs import MAX_LABEL_LENGTH
from enrichment.selectors.jobs import check_items, job_calls_left
from quota.database import QuotaNow
from quota.exceptions import ConsumerUnknown, QuotaRefused
from quota.models import Consumer
from quota.selectors.status import calls_spent, get_status

log = structlog.get_logger(__name__)


class _Encoder(DjangoJSONEncoder):
    def default(self, o: Any) -> Any:
        return asdict(o) if is_dataclass(o) and not isinstance(o, type) else super().default(o)


def create_job(
    *,
    consumer: Consumer,
    kind: Job.Kind,
    wanted: dict[str, Any],
    on_exhausted: Job.OnExhausted = Job.OnExhausted.FAIL,
    idempotency_key: str | None = None,
    label: str = "",
    list_key: str = "",
    notify_url: str = "",
    again: bool = False,
    attended: bool = False,
) -> Job:
    """Creates a job and sends it to a worker. A key that the consumer has used before returns the job of that key.

    `wanted`: the validated body of the request.
    - batch-direct: `isbns`, in any form; `refresh`, `source`.
    - bibliography: `author_name`; `max_pages`, `start_page`, `skip_existing`, `refresh`, `source`.
    - new-releases: `wanted`, a Wanted of services/releases; `place` (where an earlier run stopped), `source`.
    - authors: `authors`, names without repetitions; `max_pages`, `skip_existing`, `source`.

    `label`: where a list comes from. `list_key`: identifies it; for authors, by default, the names do. `notify_url`:
    where to report what becomes of the job. `again`: also if an earlier job of this consumer for the same list has
    ended. `attended`: a command works on the job, and no worker gets it: it is paused until the command claims it.

    Raises AlreadyBegun, AlreadyFinished, IdempotencyKeyReused, TooManyJobs, TooManyItems, QuotaUnavailable, and
    QuotaRefused when the job can need more calls than the consumer's cap for one operation (in a job of authors, each
    author is one).
    """
    requested = [kind, wanted, on_exhausted, *([notify_url] if notify_url else [])]
    body = json.dumps(requested, sort_keys=True, cls=_Encoder)
    job = Job(
        consumer=consumer,
        kind=kind,
        wanted=json.loads(body)[1],
        label=label[:MAX_LABEL_LENGTH],
        list_key=list_key,
        notify_url=notify_url,
        on_exhausted=on_exhausted,
        idempotency_key=idempotency_key,
        body_hash=hashlib.sha256(body.encode()).hexdigest(),
        created_at=QuotaNow(),
        attended=attended,
        state=Job.State.PAUSED if attended else Job.State.QUEUED,
        resume_at=None if attended else QuotaNow(),
    )
    if idempotency_key is not None and (earlier := _job_of_same_key(job)):
        return earlier
    rows = handler_of(job).plan()
    job.item_count = len(rows)
    _check_cap(job)
    with transaction.atomic(durable=True):
        _refuse_to_pay_twice(job, rows, again=again)
        check_limits(job)
        # Of two requests for the same at the same moment, one waits here for the other and inserts nothing.
        Job.objects.bulk_create([job], ignore_conflicts=True)
        if not Job.objects.filter(pk=job.pk).exists():
            if idempotency_key is not None and (earlier := _job_of_same_key(job)):
                return earlier
            _refuse_to_pay_twice(job, rows, again=again)
        handler_of(job).insert(rows)
        hold_limits(job)
        if not attended:
            send_to_worker(job)
    created = Job.objects.select_related("consumer").get(pk=job.pk)
    created.is_announced = job.is_announced
    return created


def payer_of(slug: str) -> Consumer:
    """The consumer that pays for a list of staff or of a command. Raises ConsumerUnknown."""
    payer = Consumer.objects.filter(slug=slug).first()
    if payer is None:
        raise ConsumerUnknown(f"There is no consumer {slug!r} to pay for this. `manage.py migrate` creates it.")
    return payer


def cancel_job(job_id: uuid.UUID) -> Job:
    """Ends a job that no process runs. A running job ends after what is under way. Raises JobEnded."""
    calls = calls_spent(source=Job(id=job_id).source)
    with _not_ended(job_id) as job:
        job.stop_requested = Job.Stop.CANCEL
        job.save(update_fields=["stop_requested"])
        if job.state != Job.State.RUNNING:
            cancel(job, calls=calls)
    job.refresh_from_db()
    return job


def pause_job(job_id: uuid.UUID) -> Job:
    """Pauses a job until `resume_job`. A running job pauses after what is under way. Raises JobEnded.

    A job that somebody has cancelled still ends.
    """
    with _not_ended(job_id) as job:
        if job.state == Job.State.RUNNING:
            Job.objects.filter(pk=job_id, stop_requested="").update(stop_requested=Job.Stop.PAUSE)
        else:
            pause(job, reason="paused", error="Paused.")
    job.refresh_from_db()
    return job


def resume_job(job_id: uuid.UUID) -> Job:
    """Sends a paused job to a worker, also one that a command had. Takes back a request to pause.

    Raises JobNotPaused and JobEnded.
    """
    with _not_ended(job_id) as job:
        if job.state == Job.State.RUNNING and job.stop_requested == Job.Stop.PAUSE:
            job.stop_requested = ""
        elif job.state == Job.State.PAUSED:
            job.state, job.resume_at, job.attended = Job.State.QUEUED, QuotaNow(), False
            job.stop_requested, job.stopped_reason, job.error, job.attempts, job.failures = "", "", "", 0, 0
            send_to_worker(job)
        else:
            raise JobNotPaused(f"Only a paused job can be resumed. This job is {job.state}.")
        job.save()
    job.refresh_from_db()
    return job


def retry_job(job_id: uuid.UUID) -> Job:
    """Runs an ended job again, only for what failed or was not done.

    Raises NothingToRetry, ItemsDeleted, TooManyJobs, TooManyItems, and AlreadyBegun when a later job of the same list
    has not ended.
    """
    with transaction.atomic(durable=True):
        job = Job.objects.select_for_update(no_key=True, of=("self",)).select_related("consumer").get(pk=job_id)
        if job.ended_at is None:
            raise NothingToRetry("The job has not ended yet.")
        check_items(job)
        refuse_second(job)
        if not handler_of(job).is_left():
            raise NothingToRetry("Nothing in the job has failed that can be retried.")
        handler_of(job).reset_failed()
        job.state, job.resume_at = Job.State.QUEUED, QuotaNow()
        job.ended_at, job.result, job.stopped_reason, job.error = None, None, "", ""
        job.attempts, job.failures, job.stop_requested, job.attended = 0, 0, "", False
        job.save()
        hold_limits(job)
        send_to_worker(job)
    job.refresh_from_db()
    return job


def resume_jobs() -> int:
    """Queues the jobs whose runner died or whose wait is over, and tells the workers; returns how many jobs go on.

    The truth is in the database: if the broker has fewer messages than there are queued jobs, because it was out of
    reach or has lost them, the missing ones are sent. A job whose command died is paused: the person who started the
    command resumes it.
    """
    pause_abandoned()
    resumed = sum(
        Job.objects.filter(due(), pk=job_id).update(
            state=Job.State.QUEUED, runner=None, lease_until=None, resume_at=QuotaNow()
        )
        for job_id in list(Job.objects.filter(due()).values_list("pk", flat=True))
    )
    return max(resumed, _send_missing())


def _send_missing() -> int:
    """Sends as many messages as the broker lacks for the queued jobs; returns how many it has taken."""
    queued = Job.objects.filter(state=Job.State.QUEUED, attended=False).count()
    try:
        missing = queued - messages_waiting(QUEUE) if queued else 0
    except OUT_OF_REACH as error:
        log.warning("job.not_sent", jobs=queued, error=f"{type(error).__name__}: {error}")
        return 0
    sent = 0
    while sent < missing and send_message():
        sent += 1
    return sent


def _job_of_same_key(job: Job) -> Job | None:
    """The earlier job of the consumer with the same idempotency key. Raises IdempotencyKeyReused."""
    key = {"consumer": job.consumer, "idempotency_key": job.idempotency_key}
    earlier = Job.objects.select_related("consumer").filter(**key).first()
    if earlier and earlier.body_hash != job.body_hash:
        raise IdempotencyKeyReused("This idempotency key was used for a different request. Send a new key.")
    return earlier


@contextmanager
def _not_ended(job_id: uuid.UUID) -> Iterator[Job]:
    """A transaction that locks a job. Raises JobEnded."""
    with transaction.atomic(durable=True):
        job = Job.objects.select_for_update(no_key=True, of=("self",)).select_related("consumer").get(pk=job_id)
        if job.ended_at is not None:
            ended = "been cancelled" if job.state == Job.State.CANCELLED else job.state
            raise JobEnded(f"The job has already {ended}.")
        yield job


def _refuse_to_pay_twice(job: Job, rows: list[Any], *, again: bool) -> None:
    """Raises AlreadyBegun or AlreadyFinished if the consumer has an earlier job of the same list."""
    if not job.list_key:
        return
    refuse_second(job)
    same = Job.objects.filter(consumer=job.consumer, list_key=job.list_key)
    if again or (earlier := same.order_by("-ended_at").first()) is None:
        return
    if earlier.state != Job.State.SUCCEEDED or (earlier.result or {}).get("authors_failed"):
        raise AlreadyBegun(earlier)
    least, most = authors.calls_for(job, [row.name for row in rows])
    raise AlreadyFinished(earlier, calls_at_least=least, calls_at_most=most)


def _check_cap(job: Job) -> None:
    """The consumer's cap applies to the whole job, although each request reserves only its own calls."""
    cap, calls = job.consumer.cap_per_operation, job_calls_left(job)
    if handler_of(job).UNIT_IS_AN_OPERATION:
        calls //= max(1, job.total)
    if cap is not None and calls > cap and get_status().enforcement == "enforce":
        raise QuotaRefused(limit="cap_per_operation", asked=calls, free=cap, retry_at=None)

"""Long work that goes on after the answer, in steps of one call each. docs/jobs.md says what happens when.

`create_job`, `cancel_job`, `retry_job`, `resume_jobs` and `prune_jobs` are here; working on a job is in `running`.
"""

import hashlib
import json
import uuid
from dataclasses import asdict, is_dataclass
from datetime import date
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.db import transaction

from enrichment.exceptions import IdempotencyKeyReused, JobEnded, NothingToRetry
from enrichment.jobs import batches
from enrichment.jobs.claims import QUEUE_PATIENCE, due, queue
from enrichment.jobs.ending import cancel
from enrichment.jobs.kinds import work_of
from enrichment.models import Job
from enrichment.selectors import job_calls_left
from quota.database import QuotaNow
from quota.exceptions import QuotaRefused
from quota.models import Consumer
from quota.selectors.status import calls_spent, get_status


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
) -> Job:
    """Queues long work, which a worker takes up at once; with an idempotency key used before, gives that job.

    `wanted`: the validated body of the request.
    - batch-direct: `isbns`, in any form; `refresh`, `source`.
    - bibliography: `author_name`; `max_pages`, `start_page`, `skip_existing`, `source`.
    - new-releases: `wanted`, a Wanted of services/releases; `position` (where an earlier run stopped), `source`.

    Raises QuotaRefused (the consumer's cap an operation is less than it may take), IdempotencyKeyReused and
    QuotaUnavailable.
    """
    asked = json.dumps([kind, wanted, on_exhausted], sort_keys=True, cls=_Encoder)
    job = Job(
        consumer=consumer,
        kind=kind,
        wanted=json.loads(asked)[1],
        on_exhausted=on_exhausted,
        idempotency_key=idempotency_key,
        body_hash=hashlib.sha256(asked.encode()).hexdigest(),
        created_at=QuotaNow(),
        resume_at=QuotaNow() + QUEUE_PATIENCE,
    )
    if idempotency_key is not None and (earlier := _of_key(job)):
        return earlier
    rows = work_of(job).plan(job)
    _check_cap(job)
    with transaction.atomic(durable=True):
        # Whoever brings the same key at the same moment waits here for the other, and inserts nothing.
        Job.objects.bulk_create([job], ignore_conflicts=idempotency_key is not None)
        if idempotency_key is not None and (earlier := _of_key(job)) and earlier.pk != job.pk:
            return earlier
        batches.insert(rows)
        queue(job.pk)
    return Job.objects.select_related("consumer").get(pk=job.pk)


def cancel_job(job_id: uuid.UUID) -> Job:
    """Ends a job that is queued or waits, or lets its runner end it after the step under way. Raises JobEnded."""
    calls = calls_spent(source=Job(id=job_id).source)
    with transaction.atomic(durable=True):
        job = Job.objects.select_for_update(no_key=True, of=("self",)).select_related("consumer").get(pk=job_id)
        if job.ended_at is not None:
            raise JobEnded(f"The job has {job.state} already." if job.state != "cancelled" else "The job is cancelled.")
        job.cancel_requested = True
        job.save(update_fields=["cancel_requested"])
        if job.state != Job.State.RUNNING:
            cancel(job, calls=calls)
    job.refresh_from_db()
    return job


def retry_job(job_id: uuid.UUID) -> Job:
    """Queues an ended job anew, for what failed or was given up; what came off is not asked for again.

    Raises NothingToRetry.
    """
    with transaction.atomic(durable=True):
        job = Job.objects.select_for_update(no_key=True, of=("self",)).select_related("consumer").get(pk=job_id)
        if job.ended_at is None:
            raise NothingToRetry("The job is still under way.")
        if not work_of(job).try_again(job):
            raise NothingToRetry("Nothing of the job failed that could be asked for again.")
        job.state, job.resume_at = Job.State.QUEUED, QuotaNow() + QUEUE_PATIENCE
        job.ended_at, job.result, job.stopped_reason, job.error = None, None, "", ""
        job.attempts, job.failures, job.cancel_requested = 0, 0, False
        job.save()
        queue(job.pk)
    job.refresh_from_db()
    return job


def resume_jobs() -> int:
    """Queues the jobs whose runner died, whose wait is over, or which nobody took; returns how many."""
    resumed = 0
    for job_id in list(Job.objects.filter(due()).order_by("created_at").values_list("pk", flat=True)):
        with transaction.atomic(durable=True):
            claimed = Job.objects.filter(due(), pk=job_id).update(
                state=Job.State.QUEUED, runner=None, lease_until=None, resume_at=QuotaNow() + QUEUE_PATIENCE
            )
            if claimed == 1:
                queue(job_id)
                resumed += 1
    return resumed


def prune_jobs(*, before: date) -> int:
    """Deletes the jobs that ended on a day before, with their items; returns how many. One a transaction."""
    old = Job.objects.filter(ended_at__date__lt=before)
    pruned = 0
    for job_id in list(old.values_list("pk", flat=True)):
        with transaction.atomic(durable=True):
            # Somebody may retry it at this moment.
            if old.select_for_update().filter(pk=job_id).exists():
                Job.objects.filter(pk=job_id).delete()
                pruned += 1
    return pruned


def _of_key(job: Job) -> Job | None:
    """The job that the consumer made with the same key before."""
    key = {"consumer": job.consumer, "idempotency_key": job.idempotency_key}
    earlier = Job.objects.select_related("consumer").filter(**key).first()
    if earlier and earlier.body_hash != job.body_hash:
        raise IdempotencyKeyReused("This idempotency key was used for something else.")
    return earlier


def _check_cap(job: Job) -> None:
    """A job is one operation, though each of its steps sets one call aside."""
    cap, calls = job.consumer.cap_per_operation, job_calls_left(job)
    if cap is not None and calls > cap and get_status().enforcement == "enforce":
        raise QuotaRefused(limit="cap_per_operation", asked=calls, free=cap, retry_at=None)

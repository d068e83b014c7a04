"""Messages about jobs, for the address that a job names or that its consumer has. `delivery` sends them.

A message is written in the transaction that records what became of the job.
"""

import uuid
from typing import Any

from django.db import transaction
from django.urls import reverse

from alexandria.alerts.models import Delivery, Webhook
from alexandria.alerts.services import new_message, webhook_of
from alexandria.common.publishing import publish
from enrichment.jobs.events import job_changed
from enrichment.models import Job
from enrichment.serializers.jobs import JobSerializer
from quota.database import QuotaNow

EVENTS = {
    Job.State.SUCCEEDED.value: Delivery.Event.JOB_SUCCEEDED,
    Job.State.FAILED.value: Delivery.Event.JOB_FAILED,
    Job.State.WAITING.value: Delivery.Event.JOB_WAITING,
}
"""A job that is paused or cancelled has no message: its owner did that."""


def listen() -> None:
    """Reports jobs from now on."""
    job_changed.connect(_report, dispatch_uid="alexandria.alerts.job_events")


def _report(*, job_id: uuid.UUID, **_: Any) -> None:
    job = Job.objects.select_related("consumer").annotate(now=QuotaNow()).get(pk=job_id)
    event = EVENTS.get(job.state)
    webhook = Webhook.objects.filter(consumer=job.consumer).first()
    is_wanted = webhook.active and bool(job.notify_url or webhook.url) if webhook else bool(job.notify_url)
    if event is None or not is_wanted or _is_reported(job, event):
        return
    message = new_message(
        event, now=job.now, job=job, about_job=_shown(job), webhook=webhook or webhook_of(job.consumer)
    )
    message.save(force_insert=True)
    transaction.on_commit(_send_soon, robust=True)


def _is_reported(job: Any, event: Delivery.Event) -> bool:
    """Whether the consumer knows that the job waits: a job can wait for a minute many times in a row."""
    if event != Delivery.Event.JOB_WAITING:
        return False
    earlier = Delivery.objects.filter(job=job, event=event, created_at__date=job.now.date())
    return earlier.filter(payload__data__job__stopped_reason=job.stopped_reason).exists()


def _shown(job: Job) -> dict[str, object]:
    """The job as `GET /api/jobs` shows it, with the figures of its result. Lists of the result can be very long."""
    shown = {name: value for name, value in JobSerializer(job).data.items() if name != "notify_url"}
    figures = {name: value for name, value in (job.result or {}).items() if not isinstance(value, list | dict)}
    return {
        **shown,
        "consumer": job.consumer.slug,
        "url": reverse("job", args=[job.pk]),
        "result": figures if job.result is not None else None,
    }


def _send_soon() -> None:
    """Tells a worker. If the broker is out of reach, the next check of the alerts does."""
    publish("alexandria.alerts.tasks.deliver_alerts")

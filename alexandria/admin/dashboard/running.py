"""What runs at this moment, each with a link to its page."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth.models import AnonymousUser, User
from django.urls import reverse

from alexandria.common.text import as_people_read, counted, length_of_time
from alexandria.common.widgets import Part, share
from enrichment.jobs.registry import handler_of
from enrichment.models import Job
from enrichment.selectors.jobs import jobs_under_way
from harvest.selectors import crons_under_way
from quota.selectors.dashboard import QuotaDashboard

MAX_LISTED = 10
"""Reservations, and jobs, that the dashboard lists. A link leads to the others."""


@dataclass(frozen=True)
class Running:
    """One row. `standing` says in words how far it is; `done` of `total` (of any unit) is its bar, if it is known."""

    kind: str
    name: str
    url: str
    who: str
    age: timedelta
    standing: str
    done: int | None = None
    total: int | None = None

    @property
    def bar(self) -> list[Part]:
        return share(self.done or 0, self.total) if self.total else []


@dataclass(frozen=True)
class RunningNow:
    """The rows, and the full lists (name, address) of what has more rows than the dashboard shows."""

    rows: list[Running]
    more: list[tuple[str, str]]


def running_now(user: User | AnonymousUser, quota: QuotaDashboard) -> RunningNow:
    """Jobs, crons and open reservations, as far as `user` is permitted to see them."""
    now = quota.status.now
    rows: list[Running] = []
    more: list[tuple[str, str]] = []
    if user.has_perm("enrichment.view_job"):
        jobs = jobs_under_way(MAX_LISTED + 1)
        rows += [_job(job, now) for job in jobs[:MAX_LISTED]]
        if len(jobs) > MAX_LISTED:
            more.append(("all jobs", reverse("admin:enrichment_job_changelist")))
    if user.has_perm("harvest.view_cronstate"):
        rows += _crons(now)
    if user.has_perm("quota.view_reservation"):
        rows += [_reservation(reservation, now) for reservation in quota.reservations[:MAX_LISTED]]
        if len(quota.reservations) > MAX_LISTED:
            more.append(("all open reservations", f"{reverse('admin:quota_reservation_changelist')}?state__exact=open"))
    return RunningNow(rows, more)


def _job(job: Job, now: datetime) -> Running:
    standing = f"{job.get_state_display()}, {job.done:,} of {counted(job.total, handler_of(job).UNIT)}"
    if job.state == Job.State.WAITING and job.resume_at:
        standing += f", continues at {as_people_read(job.resume_at)}"
    return Running(
        kind="job",
        name=job.kind_label,
        url=reverse("admin:enrichment_job_change", args=[job.pk]),
        who=job.consumer.slug,
        age=now - job.created_at,
        standing=standing,
        done=job.done,
        total=job.total,
    )


def _crons(now: datetime) -> Iterator[Running]:
    for state in crons_under_way():
        run: Any = state.run
        url = reverse("admin:harvest_harvestrun_change", args=[run.pk])
        yield Running("cron", state.name, url, state.name, now - run.started_at, _lease(state.lease_until, now))


def _reservation(reservation: Any, now: datetime) -> Running:
    sent = f"{reservation.dispatched:,} of {reservation.calls:,} calls spent"
    return Running(
        kind="reservation",
        name=reservation.operation,
        url=reverse("admin:quota_reservation_change", args=[reservation.pk]),
        who=reservation.consumer.slug,
        age=now - reservation.created_at,
        standing=f"{sent}, {_lease(reservation.expires_at, now)}",
    )


def _lease(until: datetime | None, now: datetime) -> str:
    if until is None:
        return "no lease"
    if until > now:
        return f"lease ends in {length_of_time(until - now)}"
    return f"lease ended {length_of_time(now - until)} ago"

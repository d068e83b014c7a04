"""The lists of ISBNs that a member of staff has started last: what came of each, and what did not."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any, cast

from django.contrib import admin
from django.contrib.admin.models import ADDITION, LogEntry
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.db.models import Count
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from enrichment.admin.lists import permit
from enrichment.admin.progress import STATE_COLOURS
from enrichment.exports.formats import FORMATS
from enrichment.models import Job, JobItem
from enrichment.selectors.jobs import CAME

MAX_LISTS = 25
MAX_STARTS = 200
"""Jobs of a person that are looked through: those of authors are left out."""

MISSING = (JobItem.State.NOT_FOUND, JobItem.State.FAILED, JobItem.State.INVALID)


def your_lists(request: HttpRequest) -> HttpResponse:
    """The lists that the user has started last, the newest first."""
    permit(request, "enrichment.view_job")
    context = admin.site.each_context(request) | {"title": "Your lists", "formats": FORMATS}
    context["lists"] = started_by(cast(User, request.user))
    return TemplateResponse(request, "enrichment/admin/your_lists.html", context)


def started_by(user: User) -> list[dict[str, Any]]:
    """The latest jobs of ISBNs that the user has started in the admin, at most MAX_LISTS, the newest first.

    Each with what the page shows of it: how many of its ISBNs came, and how many did not.
    """
    starts = LogEntry.objects.filter(
        user=user, action_flag=ADDITION, content_type=ContentType.objects.get_for_model(Job)
    ).order_by("-action_time")
    ids = [job_id for job_id in starts.values_list("object_id", flat=True)[:MAX_STARTS] if job_id]
    jobs = list(Job.objects.filter(pk__in=ids, kind=Job.Kind.BATCH_DIRECT).order_by("-created_at")[:MAX_LISTS])
    states = _states_of(jobs)
    return [
        {
            "job": job,
            "purpose": job.wanted.get("source", ""),
            "colour": STATE_COLOURS[job.state],
            "came": sum(states[job.pk][state] for state in CAME),
            "missing": sum(states[job.pk][state] for state in MISSING),
            "duplicates": states[job.pk][JobItem.State.DUPLICATE],
            "pending": states[job.pk][JobItem.State.PENDING],
        }
        for job in jobs
    ]


def _states_of(jobs: Sequence[Job]) -> defaultdict[object, Counter[str]]:
    """The number of ISBNs in each state, by the id of the job. Items that were deleted count as they were."""
    states: defaultdict[object, Counter[str]] = defaultdict(Counter)
    kept = [job.pk for job in jobs if not job.items_deleted_at]
    items = JobItem.objects.filter(job__in=kept).order_by().values_list("job", "state")
    for job_id, state, count in items.annotate(Count("position")):
        states[job_id][state] = count
    for job in jobs:
        if job.items_deleted_at:
            states[job.pk].update(job.item_figures["states"])
    return states

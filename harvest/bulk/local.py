"""A bulk harvest on our own database: a job of authors that this process works on."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from django.conf import settings
from django.db import InterfaceError, OperationalError, connection
from django.db.models import Count

from enrichment.exceptions import AlreadyBegun, AlreadyFinished, AnotherRunner, JobError
from enrichment.jobs.attended import AttendedRun, Ended, claim_for_command
from enrichment.jobs.claims import pause_abandoned
from enrichment.jobs.ending import end
from enrichment.jobs.kinds.authors import authors_to_do, calls_for
from enrichment.jobs.lifecycle import create_job, payer_of
from enrichment.models import Author as StoredAuthor
from enrichment.models import Job, JobAuthor
from enrichment.models.jobs import BULK_AUTHOR
from enrichment.selectors.jobs import MAX_PAGES, author_figures, failure_reasons, find_list, last_stopped, max_pages_of
from harvest.bulk.harvests import (
    EXIT_ANOTHER,
    QUOTA_EVERY,
    AuthorList,
    CannotGoOn,
    Figures,
    Plan,
    Quota,
    Report,
    Wishes,
    already_begun,
    already_finished,
    author_of,
    list_to_begin,
    summary_of,
)
from quota.exceptions import ConsumerUnknown, QuotaRefused, QuotaUnavailable
from quota.selectors.allowances import why_no_call
from quota.selectors.forecast import forecast
from quota.selectors.status import calls_spent, get_status

MIN_SECONDS_BETWEEN_LOOKS = 1.0
"""Pages can come faster than somebody reads how many calls are left, and each look asks the database."""


class LocalHarvest:
    """Satisfies harvest.bulk.harvests.Harvest. `resume` without a list continues the job that stopped last."""

    def __init__(self) -> None:
        self._run: AttendedRun | None = None
        self._stopping = False

    def quota(self) -> Quota:
        with _reachable():
            status = get_status()
            why_none = why_no_call(BULK_AUTHOR, status)
            free = 0 if why_none else forecast(status.safety_limit, consumer=BULK_AUTHOR).today
        return Quota(
            used=status.used,
            reserved=status.reserved,
            safety_limit=status.safety_limit,
            remaining=status.remaining,
            free=free,
            reset_at=status.reset_at,
            why_none=why_none,
        )

    def names_by_editions(self, first: int, last: int) -> list[str]:
        ranked = StoredAuthor.objects.annotate(stored=Count("edition_links")).order_by("-stored", "name_key")
        with _reachable():
            return list(ranked.values_list("name", flat=True)[first - 1 : last])

    def plan(self, wanted: AuthorList | None, wishes: Wishes) -> Plan:
        with _reachable():
            pause_abandoned()
            job = self._earlier(wanted) if wishes.resume else None
            if job is not None:
                job.wanted["max_pages"] = wishes.max_pages or max_pages_of(job)
                label, authors, rows = f"{job.label} (job {job})", job.total, authors_to_do(job)[: wishes.limit]
                names = [row.name for row in rows]
                least, _ = calls_for(job, names)
                most = sum(max(1, max_pages_of(job) - row.pages) for row in rows)
            else:
                wanted = list_to_begin(wanted, where="in the database")
                names = wanted.names()
                label, authors, names = wanted.label, len(names), names[: wishes.limit]
                least, most = calls_for(Job(wanted=_options(wishes)), names)
            ends = [forecast(calls, consumer=BULK_AUTHOR).finish_at for calls in (least, most)]
            return Plan(label, authors, names, least, most, *ends)

    def begin(self, wanted: AuthorList | None, wishes: Wishes) -> int:
        if not settings.ISBNDB_API_KEY:
            raise CannotGoOn(
                "ISBNDB_API_KEY is not set, so nothing was sent. Set it. (While `make run` runs: . .data/run.env)"
            )
        self._wishes = wishes
        with _reachable():
            pause_abandoned()
            try:
                job = self._job_to_work_on(wanted, wishes)
                self.job = claim_for_command(job.pk, max_pages=wishes.max_pages)
            except AnotherRunner as error:
                raise CannotGoOn(str(error), code=EXIT_ANOTHER) from error
            except AlreadyFinished as error:
                raise already_finished(str(error)) from error
            except AlreadyBegun as error:
                if error.job.state == Job.State.RUNNING:
                    raise CannotGoOn(str(AnotherRunner(error.job)), code=EXIT_ANOTHER) from error
                raise already_begun(error.job.label, error.job) from error
            except (JobError, QuotaRefused) as error:
                raise CannotGoOn(str(error)) from error
            pending = self.job.authors.filter(state=JobAuthor.State.PENDING).count()
        return min(pending, wishes.limit or pending)

    def run(self, report: Report) -> Ended:
        if self.job.ended_at is not None:
            return Ended()
        with _reachable():
            wishes = self._wishes
            self._run = AttendedRun(self.job, listener=_Listener(self, report), limit=wishes.limit, wait=wishes.wait)
            if self._stopping:
                self._run.stop()
            return self._run.run()

    def stop(self) -> None:
        self._stopping = True
        if self._run is not None:
            self._run.stop()

    def summary(self) -> Figures:
        with _reachable():
            failed = self.job.authors.filter(state=JobAuthor.State.FAILED)
            return summary_of(
                self.job.label,
                self.job,
                author_figures(self.job),
                calls=calls_spent(source=self.job.source),
                failures=failure_reasons(self.job),
                failed=list(failed.order_by("position").values_list("name", flat=True)),
            )

    def close(self) -> None:
        """Nothing to do: Django manages the connections."""

    def _earlier(self, wanted: AuthorList | None) -> Job | None:
        """The latest job of the list or, without a list, the one that stopped last or runs."""
        payer = payer_of(BULK_AUTHOR)
        return last_stopped(payer) if wanted is None else find_list(payer, wanted.key)

    def _job_to_work_on(self, wanted: AuthorList | None, wishes: Wishes) -> Job:
        earlier = None if wanted is None and not wishes.resume else self._earlier(wanted)
        if wishes.resume and earlier is not None:
            return earlier
        wanted = list_to_begin(wanted, where="in the database")
        again = wishes.again
        if wishes.restart and earlier is not None and earlier.state != Job.State.SUCCEEDED:
            again = True
            if earlier.ended_at is None:
                end(claim_for_command(earlier.pk), state=Job.State.CANCELLED, reason="restarted", error="Restarted.")
        return create_job(
            consumer=payer_of(BULK_AUTHOR),
            kind=Job.Kind.AUTHORS,
            wanted={"authors": wanted.names(), "source": "", **_options(wishes)},
            label=wanted.label,
            list_key=wanted.key,
            again=again,
            attended=True,
        )


class _Listener:
    """Passes on what happens in the run of a job (see enrichment.jobs.attended.Listener)."""

    def __init__(self, harvest: LocalHarvest, report: Report) -> None:
        self._harvest = harvest
        self._report = report
        self._authors = 0
        self._look_at = 0.0
        self.waiting, self.trying_again = report.waiting, report.trying_again
        report.quota(harvest.quota())

    def author(self, author: JobAuthor, detail: str) -> None:
        self._report.author(author_of(vars(author)), detail)
        self._authors += 1
        if self._authors % QUOTA_EVERY == 0:
            with suppress(CannotGoOn):
                self._report.quota(self._harvest.quota())

    def page(self) -> None:
        if time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + MIN_SECONDS_BETWEEN_LOOKS
        with suppress(QuotaUnavailable):  # the page counts even if the calls that are left are not known
            self._report.calls_left(get_status().remaining)


def _options(wishes: Wishes) -> Figures:
    return {"max_pages": wishes.max_pages or MAX_PAGES, "skip_existing": True}


@contextmanager
def _reachable() -> Iterator[None]:
    """Turns an unreachable database and a missing consumer into CannotGoOn."""
    try:
        yield
    except (QuotaUnavailable, ConsumerUnknown) as error:
        raise CannotGoOn(str(error)) from error
    except (OperationalError, InterfaceError) as error:
        connection.close()
        raise CannotGoOn("The database does not answer.") from error

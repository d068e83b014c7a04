"""A bulk harvest at a server: its API makes the job, its workers do it, and this process follows it."""

import time
import uuid
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from enrichment.jobs.attended import Ended
from enrichment.selectors.jobs import MAX_PAGES
from harvest.bulk.api import Answer, Api
from harvest.bulk.harvests import (
    EXIT_ANOTHER,
    EXIT_INTERRUPTED,
    FAILED,
    INTERRUPTED,
    PENDING,
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

Json = dict[str, Any]

KIND = "authors"
POLL_SECONDS = (1.0, 5.0)
"""Between two looks at the job: at least, and at most while nothing happens."""

_UNDER_WAY = {"queued", "running", "waiting"}
_NEEDED = (
    "id",
    "label",
    "state",
    "resume_at",
    "stopped_reason",
    "error",
    "progress",
    "api_calls",
    "failures",
    "figures",
)


class RemoteHarvest:
    """Satisfies harvest.bulk.harvests.Harvest, as the consumer of the API key."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._stopping = False
        self._reported: set[int] = set()
        self._first_open = ""
        """The address of the first page of authors with one that is pending: what comes before needs no second look."""

    def quota(self) -> Quota:
        status = self._api.get("/api/quota/status")
        allowance = self._api.get("/api/quota/me")
        with self._api.understood():
            limit = allowance["limited_by"]
            free = allowance["free"] if status["can_make_calls"] else 0
            return Quota(
                used=status["used"],
                reserved=status["reserved"],
                safety_limit=status["safety_limit"],
                remaining=status["remaining"],
                free=free,
                reset_at=datetime.fromisoformat(status["reset_at"]),
                why_none=f"Limited by {limit}." if free == 0 and limit else "",
            )

    def names_by_editions(self, first: int, last: int) -> list[str]:
        answer = self._api.get(f"/api/authors/top?limit={last}")
        with self._api.understood():
            return [author["name"] for author in answer["results"][first - 1 :]]

    def plan(self, wanted: AuthorList | None, wishes: Wishes) -> Plan:
        job = self._earlier(wanted) if wishes.resume else None
        if job is not None:
            label, authors = f"{job['label']} (job {job['id']})", job["progress"]["total"]
            rows = [row for row in self._authors(job) if row["state"] in {PENDING, FAILED}][: wishes.limit]
            to_do = [row["name"] for row in rows]
            most = sum(max(1, (wishes.max_pages or MAX_PAGES) - row["pages"]) for row in rows)
        else:
            wanted = list_to_begin(wanted, where="at the server")
            names = wanted.names()
            label, authors, to_do = wanted.label, len(names), names[: wishes.limit]
            most = len(to_do) * (wishes.max_pages or MAX_PAGES)
        return Plan(label, authors, to_do, len(to_do), most, self._end_of(len(to_do)), self._end_of(most))

    def _end_of(self, calls: int) -> datetime | None:
        answer = self._api.get(f"/api/quota/forecast?calls={max(1, calls)}")
        with self._api.understood():
            return _moment(answer["finish_at"])

    def begin(self, wanted: AuthorList | None, wishes: Wishes) -> int:
        self._wishes = wishes
        earlier = self._earlier(wanted) if wishes.resume else None
        if earlier is None:
            self._create(wanted, wishes)
        else:
            self._take_over(earlier)
        pending: int = self._job["progress"]["total"] - len(self._reported)
        return min(pending, wishes.limit or pending)

    def run(self, report: Report) -> Ended:
        """Follows the job. It goes on at the server when this process dies."""
        self._api.trying_again = report.trying_again
        limit = self._wishes.limit
        all_reported = len(self._reported) + limit if limit else None
        waited_for, asked_to_pause, pause = None, False, POLL_SECONDS[0]
        quota_at = len(self._reported)
        while True:
            if len(self._reported) >= quota_at:
                report.quota(self.quota())
                quota_at += QUOTA_EVERY
            found = self._report_authors(report)
            state, resume_at = self._job["state"], self._job["resume_at"]
            reached_limit = all_reported is not None and len(self._reported) >= all_reported
            if state not in _UNDER_WAY:
                return self._ended(reached_limit=reached_limit and asked_to_pause)
            if state == "waiting" and resume_at != waited_for:
                waited_for = resume_at
                report.waiting(self._job["stopped_reason"] or "", self._job["error"], _moment(resume_at))
            if (self._stopping or reached_limit) and not asked_to_pause:
                asked_to_pause = True
                self._change("pause")
                continue
            pause = POLL_SECONDS[0] if found else min(pause * 1.5, POLL_SECONDS[1])
            self._sleep(pause, wake=not asked_to_pause)
            self._look()

    def stop(self) -> None:
        self._stopping = True

    def summary(self) -> Figures:
        job = self._look()
        with self._api.understood():
            failed = [row["name"] for row in self._authors(job, state=FAILED)]
            failures = job["failures"]["by_reason"]
            return summary_of(
                job["label"], job["id"], job["figures"], calls=job["api_calls"], failures=failures, failed=failed
            )

    def close(self) -> None:
        self._api.close()

    def _earlier(self, wanted: AuthorList | None) -> Json | None:
        """The latest job of the list; without a list, the latest one that is not done."""
        address = f"/api/jobs?kind={KIND}" + (f"&list_key={wanted.key}" if wanted else "")
        for _, jobs in self._api.pages(address):
            for job in jobs:
                if wanted or job["state"] != "succeeded":
                    return self._look(job["id"])
        return None

    def _create(self, wanted: AuthorList | None, wishes: Wishes) -> None:
        """Makes the job; `--restart` cancels an earlier one that has not ended."""
        wanted = list_to_begin(wanted, where="at the server")
        body = {
            "authors": wanted.names(),
            "list_key": wanted.key,
            "label": wanted.label,
            "max_pages": wishes.max_pages or MAX_PAGES,
            "again": wishes.again,
            "on_exhausted": "wait" if wishes.wait else "fail",
        }
        answer = self._post_list(body)
        if answer.code == "already_begun" and wishes.restart:
            with self._api.understood():
                self._cancel(answer.body["job"])
            answer = self._post_list(body | {"again": True})
        with self._api.understood():
            if answer.code == "already_finished":
                raise already_finished(answer.body["detail"])
            if answer.code == "already_begun":
                job = self._look(answer.body["job"])
                if job["state"] in _UNDER_WAY:
                    raise CannotGoOn(
                        f"The server works on {job['label']} (job {job['id']}). --resume follows it.", code=EXIT_ANOTHER
                    )
                raise already_begun(job["label"], job["id"])
            if answer.status != 202:
                raise CannotGoOn(f"The server refuses: {answer.body['detail']}")
            self._look(answer.body["id"])

    def _post_list(self, body: Json) -> Answer:
        # With the key, a request that is repeated because its answer was lost gives the same job.
        headers = {"Prefer": "respond-async", "Idempotency-Key": str(uuid.uuid4())}
        return self._api.post("/api/authors/bulk-harvest", body, headers=headers)

    def _take_over(self, job: Json) -> None:
        """Lets a job go on that is paused or has ended; what failed is tried again."""
        self._job = job
        to_do = {PENDING} if job["state"] in {*_UNDER_WAY, "paused"} else {PENDING, FAILED}
        self._reported = {row["position"] for row in self._authors(job) if row["state"] not in to_do}
        self._first_open = ""  # failed authors before it can become pending again
        if job["state"] == "paused":
            self._change("resume")
        elif job["state"] not in _UNDER_WAY:
            self._change("retry")

    def _change(self, how: str) -> None:
        """A conflict means that there is nothing to change, or somebody else has done it: the job tells."""
        self._api.post(f"/api/jobs/{self._job['id']}/{how}")
        self._look()

    def _cancel(self, job_id: str) -> None:
        self._look(job_id)
        self._change("cancel")
        while self._job["state"] in {*_UNDER_WAY, "paused"}:
            self._sleep(POLL_SECONDS[0], wake=True)
            if self._stopping:
                raise CannotGoOn("Interrupted.", code=EXIT_INTERRUPTED)
            self._look()

    def _look(self, job_id: str = "") -> Json:
        job: Json = self._api.get(f"/api/jobs/{job_id or self._job['id']}")
        with self._api.understood():
            self._job = {name: job[name] for name in _NEEDED}
        return self._job

    def _report_authors(self, report: Report) -> bool:
        """Reports the authors that are over by now; returns whether there were any."""
        found = False
        for row in self._authors(self._job, begin=self._first_open):
            if row["state"] != PENDING and row["position"] not in self._reported:
                self._reported.add(row["position"])
                report.author(author_of(row), row["reason"] if row["state"] == FAILED else "")
                found = True
        return found

    def _authors(self, job: Json, *, state: str = "", begin: str = "") -> Iterator[Json]:
        """The authors of the job, in order. Remembers the first page that has a pending one."""
        begin = begin or f"/api/jobs/{job['id']}/authors" + (f"?state={state}" if state else "")
        is_open = False
        for address, rows in self._api.pages(begin):
            if not is_open and any(row["state"] == PENDING for row in rows):
                is_open, self._first_open = True, address
            yield from rows

    def _ended(self, *, reached_limit: bool) -> Ended:
        state, reason, message = self._job["state"], self._job["stopped_reason"] or "", self._job["error"]
        if state == "succeeded" or (state == "paused" and reached_limit):
            return Ended()
        if state == "paused" and self._stopping:
            return Ended(INTERRUPTED, "Interrupted. The job is paused at the server; --resume continues it.")
        return Ended(reason or state, message or f"Somebody has {state} the job at the server.")

    def _sleep(self, seconds: float, *, wake: bool) -> None:
        """Sleeps; if `wake`, only until `stop` is called."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not (wake and self._stopping):
            time.sleep(min(left, 0.2))


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None

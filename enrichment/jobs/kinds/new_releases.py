"""A job of new releases: the books of some months and subjects. Its units are pages."""

from typing import Any

from enrichment.jobs.listing_run import PagesKind, from_saved
from enrichment.services.listings import Walk
from enrichment.services.releases import NewReleases, Wanted, parse_month
from quota.limits import LIMITS


class Kind(PagesKind):
    OPERATION = "new-releases"

    def result(self) -> dict[str, Any]:
        """What the API answers for the same work without a job, but without `errors`, which are in `progress`."""
        job, wanted = self.job, self._wanted
        months = {name: f"{getattr(wanted, name):%Y-%m}" for name in ("start_month", "end_month")}
        exhausted = job.stopped_reason in LIMITS
        found = NewReleases(
            wanted, self.walk(), job.consumer.slug, job.stopped_reason or None, quota_exhausted=exhausted
        )
        return {name: value for name, value in (months | found.as_dict()).items() if name != "errors"}

    def walk(self) -> Walk:
        """From where the last checkpoint is, or the resume token."""
        return self._wanted.walk(**{"place": self.job.wanted.get("place")} | from_saved(self.job.progress))

    @property
    def _wanted(self) -> Wanted:
        wanted = self.job.wanted["wanted"]
        months = {name: parse_month(wanted[name][:7]) for name in ("start_month", "end_month")}
        return Wanted(**wanted | months | {"subjects": tuple(wanted["subjects"])})

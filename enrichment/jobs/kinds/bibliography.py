"""A job of the books of one author. Its units are pages."""

from typing import Any

from enrichment.jobs.listing_run import ListingRun, PagesKind, from_saved
from enrichment.jobs.registry import Run
from enrichment.selectors.jobs import max_pages_of, skips_existing
from enrichment.services.bibliographies import Bibliography, conclude, is_known, walk_of
from enrichment.services.listings import Walk


class Kind(PagesKind):
    OPERATION = "bibliography"

    def begin(self) -> Run:
        return BibliographyRun(self)

    def result(self) -> dict[str, Any]:
        """What the API answers for the same work without a job, without `errors`. Remembers an author ISBNdb lacks."""
        found = self.found()
        if self.job.stopped_reason:
            found.stopped_reason = self.job.stopped_reason
        elif self.job.progress:
            conclude(found, start_page=self._start_page)
        elif not self.is_known(found):  # the job has not asked, because it was known when it began
            found.complete = True
        return {name: value for name, value in found.as_dict().items() if name != "errors"}

    def walk(self) -> Walk:
        return walk_of(
            self.job.wanted["author_name"],
            max_pages=max_pages_of(self.job),
            start_page=self._start_page,
            skip_existing=skips_existing(self.job),
            **from_saved(self.job.progress),
        )

    def found(self) -> Bibliography:
        return Bibliography(author=self.job.wanted["author_name"], walk=self.walk())

    def is_known(self, found: Bibliography) -> bool:
        again = self.job.wanted.get("refresh", False) or not skips_existing(self.job)
        return is_known(found, max_pages=max_pages_of(self.job), start_page=self._start_page, again=again)

    @property
    def _start_page(self) -> int:
        return int(self.job.wanted.get("start_page", 1))


class BibliographyRun(ListingRun):
    """It asks for nothing when ISBNdb has listed the author lately, or did not know it (bibliographies.py)."""

    def __init__(self, kind: Kind) -> None:
        super().__init__(kind.walk())
        self.kind = kind

    def prepare(self) -> bool:
        return super().prepare() and (bool(self.kind.job.progress) or not self.kind.is_known(self.kind.found()))

"""The cron that follows ISBNdb's feed of updates."""

from collections.abc import Iterator
from contextlib import closing
from datetime import date

from django.conf import settings

from enrichment.books.storage import mark_named
from enrichment.exceptions import IsbndbError, IsbndbRefused
from enrichment.gateway.asking import ask_each
from enrichment.gateway.listings import updates_page
from enrichment.gateway.questions import Exchanged, Question
from enrichment.models.feed import FEED_HISTORY
from enrichment.selectors.books import named_isbns, stale_isbns
from enrichment.services.feed import finish_reading, record_gap, start_run
from harvest.crons.batches import refreshed
from harvest.crons.run_context import RunContext
from quota.prices import BatchPrice
from quota.selectors.prices import batch_size_for, get_prices
from quota.spending import for_one_question

MAX_BATCHES = 100
"""Maximum number of batches in one run."""

MAX_PAGES = 1000
"""Maximum number of pages in one run; the next run continues after them."""

MAX_AT_ONCE = 2
"""Pages under way at once, at most, and no more than have come before: the feed does not say how many it has. A page
beyond its end costs no call, only a send time, and a reading asks for at most one of them."""


def update_feed(context: RunContext) -> None:
    """Marks the known ISBNs in ISBNdb's feed of updates, and refreshes them: what is stored or was requested before.

    First it reads the feed to its end, which costs no call. Then it sends what is marked, the oldest first. A mark
    stays until ISBNdb has answered for the ISBN, so what a run does not send waits for the next one. A batch that
    failed comes last there.

    A page that fails in two runs is skipped. That is a gap, as is a feed that ISBNdb refuses.

    Cursor: {"since"}, the first day to read next time. Within a reading also {"page", "began"}: the page to continue
    with, and the day that becomes `since`. After a failure {"failed_page"}.
    """
    _Reading(context).read()
    _send_named(context)


class _Reading:
    """One reading of the feed. It can take several runs; `context.cursor` always holds the current place."""

    def __init__(self, context: RunContext) -> None:
        cursor, oldest = context.cursor, context.today - FEED_HISTORY
        self.context = context
        self.since = max(oldest, date.fromisoformat(cursor.get("since", oldest.isoformat())))
        self.began: str = cursor.get("began", context.today.isoformat())
        self.page: int = cursor.get("page", 1) if self.since.isoformat() == cursor.get("since") else 1
        self.failed_page: int | None = cursor.get("failed_page")
        self.is_at_the_end = False
        start_run(from_the_beginning=self.page == 1, run=context.source)

    def read(self) -> None:
        """Reads page after page, to the end of the feed or MAX_PAGES. Raises IsbndbError and what `ask_each` raises."""
        last = self.page + MAX_PAGES - 1
        try:
            for exchanged in self._in_order(last):
                if not self.is_at_the_end:
                    self._take(exchanged)
        except IsbndbRefused as error:  # without the feed in the plan, or with a refused key, every page fails
            record_gap(f"ISBNdb refused the feed: {error}", run=self.context.source)
            self._save_place(failed_page=self.page)
            raise
        if self.is_at_the_end:
            self.context.cursor = {"since": self.began}
            finish_reading()

    def _in_order(self, last: int) -> Iterator[Exchanged[list[str]]]:
        """The pages from the current one to `last`, up to MAX_AT_ONCE under way at once."""
        next_page = first = self.page
        asked: dict[Question[list[str]], int] = {}
        came: dict[int, Exchanged[list[str]]] = {}

        def next_question() -> Question[list[str]] | None:
            nonlocal next_page
            self.context.check_can_continue()
            at_once = min(MAX_AT_ONCE, max(1, self.page - first))
            if self.is_at_the_end or next_page > min(last, self.page + at_once - 1):
                return None
            payer = for_one_question(
                consumer=self.context.consumer, operation="update-feed", source=self.context.source
            )
            question = updates_page(payer, since=self.since, page=next_page)
            asked[question] = next_page
            next_page += 1
            return question

        with closing(ask_each(next_question)) as exchanges:
            for exchanged in exchanges:
                came[asked.pop(exchanged.question)] = exchanged
                while self.page in came:
                    yield came.pop(self.page)

    def _take(self, exchanged: Exchanged[list[str]]) -> None:
        """Marks what the current page names, and goes on to the next one."""
        if exchanged.failure is not None:
            self._skip(exchanged.failure)
        else:
            self.context.record_answer()
            if not exchanged.answer:
                self.is_at_the_end = True
                return
            mark_named(exchanged.answer)
        self.page += 1
        self._save_place()

    def _skip(self, error: IsbndbError) -> None:
        """Skips a page that has failed in the run before too. Raises the first failure of a page."""
        if self.failed_page != self.page:
            self._save_place(failed_page=self.page)
            raise error
        record_gap(f"Page {self.page} failed in two runs and was skipped: {error}", run=self.context.source)
        self.context.record_failure(error)

    def _save_place(self, **more: int) -> None:
        self.context.cursor = {"since": self.since.isoformat(), "began": self.began, "page": self.page, **more}


def _send_named(context: RunContext) -> None:
    """Refreshes what the feed has named, in batches of what is free.

    The oldest stale editions fill the last batch where they cost nothing more there.
    """
    full = settings.ISBNDB_BATCH_SIZE
    to_send = named_isbns(MAX_BATCHES * full)
    named = set(to_send)
    failed = 0

    def next_batch() -> list[str]:
        if not to_send:
            return []
        size = batch_size_for(context.consumer)
        batch, to_send[:] = to_send[:size], to_send[size:]
        fill: list[str] = []
        if len(batch) < size and get_prices().batch_price == BatchPrice.REQUEST:
            fill = [isbn for isbn in stale_isbns(full + failed) if isbn not in named]
        return batch + fill[: size - len(batch)]

    for batch, answered in refreshed(next_batch, context):
        if not answered:
            failed += len(batch)
            mark_named(named.intersection(batch))  # again, so that it comes last

"""Refreshing ISBNs in batches, several under way at once, as a run of a cron does."""

from collections.abc import Callable, Iterator
from contextlib import closing

from enrichment.books.decoding import Answer
from enrichment.exceptions import IsbndbPageTooLarge
from enrichment.gateway.asking import ask_each
from enrichment.gateway.questions import Question
from enrichment.services.enrich import Batches, Enrichment, add_answer
from harvest.crons.run_context import RunContext
from quota.spending import for_one_question


def refreshed(next_batch: Callable[[], list[str]], context: RunContext) -> Iterator[tuple[list[str], bool]]:
    """Refreshes the batches of ISBN-13s that `next_batch` returns, until it returns none.

    Yields each batch that is over, and whether ISBNdb has answered it. A failure of ISBNdb is recorded. A batch that
    was too large comes in parts. Raises what `ask_each` and `context.check_can_continue` raise.
    """
    batches = Batches(next_batch)
    result = Enrichment()

    def next_question() -> Question[Answer] | None:
        context.check_can_continue()
        return batches.next_question(
            for_one_question(consumer=context.consumer, operation="batch-direct", source=context.source)
        )

    before = context.books
    with closing(ask_each(next_question)) as exchanges:
        for exchanged in exchanges:
            asked = batches.asked_by(exchanged)
            if exchanged.answer is not None:
                add_answer(asked, exchanged.answer, result)
                context.books = before + result.enriched
                context.record_answer()
                yield asked, True
            elif isinstance(exchanged.failure, IsbndbPageTooLarge):
                batches.halve(asked)
            elif exchanged.failure is not None:
                context.record_failure(exchanged.failure)
                yield asked, False

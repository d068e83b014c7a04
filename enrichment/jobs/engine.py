"""Works on a job of any kind: asks with several requests under way, stores what comes, and records it.

Workers (workers.py) and commands in a terminal (attended.py) run it, and decide what a failure means.
"""

from collections.abc import Callable
from contextlib import closing

from enrichment.books.decoding import Answer
from enrichment.gateway.asking import ask_each
from enrichment.gateway.questions import Exchanged, Question
from enrichment.jobs.claims import ClaimLost, held, renew, save_step
from enrichment.jobs.registry import Run, handler_of
from enrichment.models import Job
from quota.spending import for_one_question


class Turn:
    """The work of this runner on a job it has claimed, until everything is done or something stops it.

    `goes_on`: asked before each question; False ends the turn when what is under way has come in. `after_answer` is
    called after each answer is recorded.
    """

    def __init__(
        self, job: Job, run: Run, *, goes_on: Callable[[], bool], after_answer: Callable[[], None] = lambda: None
    ) -> None:
        self.job = job
        self.run = run
        self._goes_on = goes_on
        self._after_answer = after_answer
        self._stopped = False
        self._lost = False

    def work(self) -> bool:
        """Returns whether everything is done. If not, somebody has requested a stop, or `goes_on` has said so.

        What was under way has come in and is recorded in any case. Raises what has stopped the work: one of ENDINGS,
        EnrichmentStopped, ClaimLost, or a DatabaseError.
        """
        while not self._stopped and self.run.prepare():
            with closing(ask_each(self._next_question)) as exchanges:
                for exchanged in exchanges:
                    self._take(exchanged)
            if self._lost:
                raise ClaimLost
            if self.run.failure is not None:
                raise self.run.failure
        return not self._stopped

    def _next_question(self) -> Question[Answer] | None:
        if self._lost or self.run.failure is not None:
            return None
        self._stopped = self._stopped or bool(renew(self.job)) or not self._goes_on()
        if self._stopped:
            return None
        operation = handler_of(self.job).OPERATION
        payer = for_one_question(consumer=self.job.consumer.slug, operation=operation, source=self.job.source)
        return self.run.next_question(payer)

    def _take(self, exchanged: Exchanged[Answer]) -> None:
        self.run.take(exchanged)
        try:
            with held(self.job):
                save_step(self.job, failed=not exchanged.is_answered, **self.run.checkpoint())
        except ClaimLost:  # the answers that are still under way are paid for, so their books are stored
            self._lost = True
        else:
            self._after_answer()

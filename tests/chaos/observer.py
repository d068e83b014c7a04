"""Looks at the journal while everything breaks: which requests were on their way at each kill and outage."""

import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import TypeVar

from django.db import Error, connection

from quota.exceptions import QuotaUnavailable
from quota.models import Call

Found = TypeVar("Found")


class Observer(threading.Thread):
    """Looks once for each `look`, as soon as the database answers.

    `on_their_way`: the prices of all requests that had no outcome then, by the ids of their rows in the journal.
    """

    def __init__(self) -> None:
        super().__init__(name="observer", daemon=True)
        self.on_their_way: dict[int, int] = {}
        self.looks = 0
        self._wanted: SimpleQueue[bool] = SimpleQueue()

    def look(self) -> None:
        self._wanted.put(True)

    def stop(self) -> None:
        """Ends it after the looks that are wanted, and waits for that."""
        self._wanted.put(False)
        self.join()

    def run(self) -> None:
        while self._wanted.get():
            self.on_their_way |= from_database(
                lambda: dict(Call.objects.filter(outcome=Call.Outcome.UNKNOWN).values_list("pk", "calls"))
            )
            self.looks += 1
        connection.close()


def from_database(question: Callable[[], Found]) -> Found:
    """What the database answers, as soon as it does."""
    while True:
        try:
            return question()
        except (Error, QuotaUnavailable):
            connection.close()
            time.sleep(0.1)

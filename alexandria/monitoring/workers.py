"""Finds running workers and beats with Celery's remote control."""

from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any

from django.conf import settings

from alexandria.celery import app

QUEUES = {settings.CELERY_TASK_DEFAULT_QUEUE} | {route["queue"] for route in settings.CELERY_TASK_ROUTES.values()}
"""All queues that receive tasks."""


class _Complete(Exception):
    pass


def workers_by_queue(*, expected: Collection[str], seconds: float) -> dict[str, list[str]]:
    """The names of the workers that consume each queue, as they report it.

    Waits until each of the `expected` queues has a worker, or until no reply has come for `seconds`.
    """
    found: dict[str, list[str]] = {}

    def add(replies: dict[str, Any]) -> bool:
        for worker, queues in replies.items():
            for queue in queues:
                found.setdefault(queue["name"], []).append(worker)
        return all(queue in found for queue in expected)

    _ask_all("active_queues", add, seconds)
    return found


def has_beat(*, seconds: float) -> bool:
    """Whether a beat ticks. A beat that has not ticked for a minute does not reply (celery.beat.BeatPidbox)."""
    beats: list[str] = []

    def add(replies: dict[str, Any]) -> bool:
        beats.extend(name for name in replies if name.startswith("celerybeat@"))
        return bool(beats)

    _ask_all("ping", add, seconds)
    return bool(beats)


def _ask_all(command: str, is_complete: Callable[[dict[str, Any]], bool], seconds: float) -> None:
    """Sends a command to all workers and beats and passes each reply, by name, to `is_complete`.

    Ends when `is_complete` returns True, or when no reply has come for `seconds`.
    """

    def reply(replies: dict[str, Any]) -> None:
        if is_complete(replies):
            raise _Complete

    with suppress(_Complete), app.connection_for_write() as broker:
        app.control.broadcast(command, reply=True, timeout=seconds, connection=broker, callback=reply)

"""Who of the workers and beats is there, asked by Celery's remote control."""

from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any

from django.conf import settings

from alexandria.celery import app

QUEUES = {settings.CELERY_TASK_DEFAULT_QUEUE} | {route["queue"] for route in settings.CELERY_TASK_ROUTES.values()}
"""All to which tasks are sent."""

BROKER_SECONDS = 2.5


class _HeardEnough(Exception):
    pass


def workers_by_queue(*, expected: Collection[str], seconds: float) -> dict[str, list[str]]:
    """The names of the workers that consume each queue, by their own word.

    Listens until each of the `expected` queues has one, or nobody has replied for `seconds`.
    """
    found: dict[str, list[str]] = {}

    def heard(replies: dict[str, Any]) -> bool:
        for worker, queues in replies.items():
            for queue in queues:
                found.setdefault(queue["name"], []).append(worker)
        return all(queue in found for queue in expected)

    _ask_all("active_queues", heard, seconds)
    return found


def has_beat(*, seconds: float) -> bool:
    """Whether a beat ticks: one that does not, for a minute, keeps silent (celery.beat.BeatPidbox)."""
    beats: list[str] = []

    def heard(replies: dict[str, Any]) -> bool:
        beats.extend(name for name in replies if name.startswith("celerybeat@"))
        return bool(beats)

    _ask_all("ping", heard, seconds)
    return bool(beats)


def _ask_all(command: str, heard: Callable[[dict[str, Any]], bool], seconds: float) -> None:
    """Sends a command to all workers and beats, and hands over what each replies, by its name.

    Until `heard` says that it is enough, or nobody has replied for `seconds`.
    """

    def reply(replies: dict[str, Any]) -> None:
        if heard(replies):
            raise _HeardEnough

    patience = {"socket_timeout": BROKER_SECONDS, "socket_connect_timeout": BROKER_SECONDS, "max_retries": 0}
    with (
        suppress(_HeardEnough),
        app.connection_for_write(settings.CELERY_BROKER_URL, transport_options=patience) as broker,
    ):
        app.control.broadcast(command, reply=True, timeout=seconds, connection=broker, callback=reply)

"""Sends messages to the workers without waiting long for the broker."""

from contextvars import copy_context
from typing import Any

import structlog
from celery import current_app, signature
from kombu.exceptions import KombuError
from kombu.exceptions import OperationalError as BrokerUnavailable
from redis.exceptions import RedisError

from alexandria.common.timeouts import within

log = structlog.get_logger(__name__)

MAX_SECONDS = 2.0
"""So long the caller waits for the broker, whatever state it is in."""

OUT_OF_REACH = (BrokerUnavailable, KombuError, RedisError, OSError)
"""What Celery raises when the broker does not answer, or not in time (`Overdue` is an OSError)."""


def publish(task: str, *arguments: object, **named: object) -> bool:
    """Sends the task with these arguments; returns whether the broker has taken it within MAX_SECONDS.

    If not, it may still take it later.
    """

    def send() -> None:
        signature(task, args=arguments, kwargs=named).apply_async(retry=False)

    context = copy_context()  # the log of the task has the id of the request
    try:
        within(MAX_SECONDS, lambda: context.run(send))
    except OUT_OF_REACH as error:
        log.warning("broker.out_of_reach", task=task, error=f"{type(error).__name__}: {error}")
        return False
    return True


def messages_waiting(queue: str) -> int:
    """How many messages of the queue no worker has taken. Raises one of OUT_OF_REACH within MAX_SECONDS."""

    def count() -> int:
        with current_app.connection_for_write() as broker:
            channel: Any = broker.default_channel
            return int(channel.queue_declare(queue).message_count)

    return within(MAX_SECONDS, count)

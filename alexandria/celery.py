"""The Celery application of the workers and of beat."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery import Celery
from django_structlog.celery.steps import DjangoStructLogInitStep
from kombu.transport import redis, virtual

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "alexandria.settings")
app = Celery("alexandria")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.steps["worker"].add(DjangoStructLogInitStep)
app.autodiscover_tasks()


class TakenMessages(redis.QoS):
    """The messages that a worker has taken and not ended yet. It takes no more than it has processes.

    kombu keeps the place of a message whose end it cannot tell to Redis: as many of them as there are processes, and
    the worker takes no message any more. Here the place is free again. Redis gives out such a message once more after
    the `visibility_timeout`; the work itself is in PostgreSQL, which tells the workers of it much sooner.
    """

    def ack(self, delivery_tag: str) -> None:
        with self._place_is_freed(delivery_tag):
            super().ack(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:  # noqa: FBT001, FBT002 (kombu's signature)
        with self._place_is_freed(delivery_tag):
            super().reject(delivery_tag, requeue=requeue)

    @contextmanager
    def _place_is_freed(self, delivery_tag: Any) -> Iterator[None]:
        try:
            yield
        except Exception:
            virtual.QoS.ack(self, delivery_tag)
            raise


redis.Channel.QoS = TakenMessages

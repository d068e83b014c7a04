"""Limits of a consumer that are not calls. The apps that have such things register them in CONSUMER_LIMITS."""

from dataclasses import dataclass

from django.conf import settings
from django.utils.module_loading import import_string

from quota.database import reachable
from quota.models import Consumer


@dataclass(frozen=True)
class ConsumerLimit:
    """How many things of one kind a consumer has, and may have at most."""

    limit: str
    """The name of the setting."""
    what: str
    """What is counted, in words."""
    allowed: int
    used: int


def consumer_limits(consumer: Consumer) -> list[ConsumerLimit]:
    """All such limits of the consumer. Raises QuotaUnavailable."""
    with reachable():
        return [limit for name in settings.CONSUMER_LIMITS for limit in import_string(name)(consumer)]

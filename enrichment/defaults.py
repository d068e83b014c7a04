"""The row that exists from the start: the consumer that pays for work started in the admin."""

from enrichment.models.jobs import STAFF
from quota.models import Consumer


def ensure_defaults() -> None:
    """Creates the consumer if it is missing and leaves an existing one as it is. `migrate` calls it.

    It is of the kind `api`, so it has no floor: people who wait for an answer use the same calls as API clients.
    """
    Consumer.objects.get_or_create(slug=STAFF, defaults={"kind": Consumer.Kind.API})

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.management.base import CommandError
from django.core.validators import validate_slug
from django.utils.text import slugify

from alexandria.common.commands import ToolCommand
from alexandria.common.text import visible
from quota.models import Consumer
from quota.services.keys import create_key


class Command(ToolCommand):
    help = """\
Creates an API key and prints only the key on stdout. It cannot be shown again: only its hash is stored.

exit codes:
  0  created
  1  refused, or wrong usage"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="A name for people, up to 50 characters.")
        parser.add_argument(
            "--consumer", metavar="SLUG", help="An existing consumer. Default: a new consumer, named after NAME."
        )

        parser.add_argument(
            "--daily-budget",
            type=int,
            metavar="CALLS",
            help="Calls that a new consumer can spend in a day. Default: CONSUMER_DAILY_BUDGET.",
        )
        parser.add_argument(
            "--sees-all", action="store_true", help="A manager's key: it can see the calls of all consumers."
        )

    def handle(
        self, *args: Any, name: str, consumer: str | None, daily_budget: int | None, sees_all: bool, **options: Any
    ) -> None:
        name = visible(name)
        if not 1 <= len(name) <= 50:
            raise CommandError("NAME must have 1 to 50 characters.")
        if daily_budget is not None and (consumer is not None or daily_budget < 0):
            raise CommandError("--daily-budget is a number of calls, for a new consumer.")
        if consumer is None:
            owner = self._new_consumer(name, settings.CONSUMER_DAILY_BUDGET if daily_budget is None else daily_budget)
        else:
            try:
                owner = Consumer.objects.get(slug=consumer)
            except Consumer.DoesNotExist:
                known = ", ".join(Consumer.objects.values_list("slug", flat=True)) or "none yet"
                raise CommandError(f"--consumer: there is no consumer {consumer!r}. There are: {known}.") from None
        _, key = create_key(consumer=owner, name=name, sees_all=sees_all)
        self.stderr.write(f"Key {name!r} for consumer {owner.slug}. Store it now: it is not shown again.")
        self.stdout.write(key)

    def _new_consumer(self, name: str, daily_budget: int | None) -> Consumer:
        slug = slugify(name)
        try:
            validate_slug(slug)
        except ValidationError:
            raise CommandError("NAME must contain a letter or a digit. Or give --consumer.") from None
        owner, made = Consumer.objects.get_or_create(slug=slug, defaults={"daily_budget": daily_budget})
        if not made:
            raise CommandError(
                f"The consumer {slug!r} exists already. To create another key for it, give --consumer {slug}."
            )
        return owner

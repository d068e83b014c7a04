from argparse import ArgumentParser
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.core.validators import validate_slug
from django.utils.text import slugify

from quota.models import Consumer
from quota.services.keys import create_key


class Command(BaseCommand):
    help = (
        "Makes an API key and prints it, and nothing else, on stdout. It can't be shown again: only its hash is kept. "
        "Exit codes: 0 made, 1 refused."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="What the key is called, for people: 50 characters at the most.")
        parser.add_argument(
            "--consumer", metavar="SLUG", help="An existing consumer. Without it one is made that is called like NAME."
        )

        parser.add_argument(
            "--sees-all", action="store_true", help="A manager's key: it is told the calls of all consumers."
        )

    def handle(self, *args: Any, name: str, consumer: str | None, sees_all: bool, **options: Any) -> None:
        if not 1 <= len(name) <= 50:
            raise CommandError("NAME must have 1 to 50 characters.")
        if consumer is None:
            owner = self._new_consumer(name)
        else:
            try:
                owner = Consumer.objects.get(slug=consumer)
            except Consumer.DoesNotExist:
                known = ", ".join(Consumer.objects.values_list("slug", flat=True)) or "none yet"
                raise CommandError(f"--consumer: there is no consumer {consumer!r}. There are: {known}.") from None
        _, key = create_key(consumer=owner, name=name, sees_all=sees_all)
        self.stderr.write(f"Key {name!r} for consumer {owner.slug}. Keep it: it is not shown again.")
        self.stdout.write(key)

    def _new_consumer(self, name: str) -> Consumer:
        slug = slugify(name)
        try:
            validate_slug(slug)
        except ValidationError:
            raise CommandError("NAME must have a letter or a figure in it, or give --consumer.") from None
        owner, made = Consumer.objects.get_or_create(slug=slug)
        if not made:
            raise CommandError(f"There is a consumer {slug!r} already: give --consumer {slug} for another key of it.")
        return owner

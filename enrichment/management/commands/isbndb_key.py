import json as json_module
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from enrichment.exceptions import IsbndbError
from enrichment.gateway import fetch_key_usage
from quota.exceptions import QuotaError
from quota.models import Consumer
from quota.selectors import get_status
from quota.spending import spending

CONSUMER = "operator"


class Command(BaseCommand):
    help = (
        "Asks ISBNdb for its own counter (GET /key) and puts it beside ours. Costs one call. "
        "Exit codes: 0 ours is not below ISBNdb's, 4 it is below, 1 ISBNdb could not be asked."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help='{"isbndb_spent", "isbndb_limit", "used", "drift"}')

    def handle(self, *args: Any, json: bool, **options: Any) -> None:
        try:
            Consumer.objects.get_or_create(slug=CONSUMER)
            with spending(consumer=CONSUMER, operation="isbndb_key", calls=1) as spender:
                theirs = fetch_key_usage(spender)
            ours = get_status().used
        except (QuotaError, IsbndbError) as error:
            raise CommandError(str(error)) from error
        drift = theirs.spent - ours
        if json:
            figures = {"isbndb_spent": theirs.spent, "isbndb_limit": theirs.total, "used": ours, "drift": drift}
            self.stdout.write(json_module.dumps(figures))
        else:
            self.stdout.write(f"ISBNdb counts {theirs.spent:,} calls of {theirs.total:,}; we count {ours:,}.")
        if drift > 0:
            self.stderr.write(f"ISBNdb counts {drift:,} calls that we do not know of.")
            raise SystemExit(4)

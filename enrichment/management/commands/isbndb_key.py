import json as json_module
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from alexandria.common.text import counted
from enrichment.exceptions import EnrichmentStopped
from enrichment.services.reconciliation import reconcile
from quota.models import Consumer

CONSUMER = "operator"
CHARGED = {
    True: "ISBNdb charges GET /key.",
    False: "ISBNdb does not charge GET /key, but our ledger counts it as one call.",
}


class Command(BaseCommand):
    help = (
        "Compares ISBNdb's own counter (GET /key) with ours, and raises ours if it is lower. Costs one call. Exit "
        "codes: 0 our counter was not lower, 4 it was lower, 1 ISBNdb did not answer."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        figures = (
            '{"isbndb_spent", "isbndb_limit", "used", "drift", "raised_by", "ignored", "key_charged", "day_change"}'
        )
        parser.add_argument("--json", action="store_true", help=figures)

    def handle(self, *args: Any, json: bool, **options: Any) -> None:
        if not settings.ISBNDB_API_KEY:
            raise CommandError(
                "ISBNDB_API_KEY is not set, so nothing was sent. Set it, or use the one of `make run`: . .data/run.env"
            )
        try:
            Consumer.objects.get_or_create(slug=CONSUMER)
            found = reconcile(consumer=CONSUMER).counters
        except EnrichmentStopped as stopped:
            raise CommandError(str(stopped.reason)) from stopped
        if json:
            figures = {"isbndb_spent": found.spent, "isbndb_limit": found.total, "used": found.used}
            verdict = {"drift": found.drift, "raised_by": found.raised_by, "ignored": found.ignored}
            effects = {"key_charged": found.key_charged, "day_change": found.day_change}
            self.stdout.write(json_module.dumps(figures | verdict | effects))
        else:
            spent = counted(found.spent, "call")
            self.stdout.write(f"ISBNdb counts {spent} of {found.total:,}; we count {found.used:,}.")
            if found.key_charged is not None:
                self.stdout.write(CHARGED[found.key_charged])
            if found.day_change:
                self.stdout.write(f"Today is {found.get_day_change_display()}.")
        if found.drift > 0:
            what = f"Our counter was raised by {found.raised_by:,}." if found.raised_by else found.ignored
            self.stderr.write(f"ISBNdb counts {counted(found.drift, 'call')} that we do not know of. {what}")
            raise SystemExit(4)

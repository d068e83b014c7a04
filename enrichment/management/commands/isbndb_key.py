import json as json_module
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError

from alexandria.common.commands import ToolCommand
from alexandria.common.text import counted
from enrichment.exceptions import EnrichmentStopped
from enrichment.models.jobs import OPERATOR
from enrichment.services.reconciliation import reconcile
from quota.models import Consumer
from quota.selectors.prices import get_prices

KEY_PRICES = {1: "ISBNdb charges 1 call for GET /key.", 0: "ISBNdb does not charge GET /key."}
PRICES_SEEN = {
    "isbn": "The difference shows that a batch costs 1 call for each ISBN. This price is in force now.",
    "request": "The difference shows that a batch costs 1 call. Confirm it under “Reconciliations” in the admin.",
}


class Command(ToolCommand):
    help = """\
Compares ISBNdb's own counter (GET /key) with ours, and raises ours if it is lower. Costs one call, unless it is
measured that ISBNdb does not charge it.

exit codes:
  0  our counter was not lower
  1  ISBNdb did not answer, the quota refused the call, or wrong usage
  4  our counter was lower"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        figures = (
            '{"isbndb_spent", "isbndb_limit", "used", "drift", "raised_by", "ignored", "key_price", "day_change", '
            '"price_seen", "limit_to"}'
        )
        parser.add_argument("--json", action="store_true", help=figures)

    def handle(self, *args: Any, json: bool, **options: Any) -> None:
        if not settings.ISBNDB_API_KEY:
            raise CommandError(
                "ISBNDB_API_KEY is not set, so nothing was sent. Set it, or use the one of `make run`: . .data/run.env"
            )
        try:
            Consumer.objects.get_or_create(slug=OPERATOR)
            found = reconcile(consumer=OPERATOR).counters
            known = get_prices().key_price
        except EnrichmentStopped as stopped:
            raise CommandError(str(stopped.reason)) from stopped
        if json:
            figures = {"isbndb_spent": found.spent, "isbndb_limit": found.total, "used": found.used}
            verdict = {"drift": found.drift, "raised_by": found.raised_by, "ignored": found.ignored}
            effects = {"key_price": known, "day_change": found.day_change}
            effects |= {"price_seen": found.price_seen, "limit_to": found.limit_to}
            self.stdout.write(json_module.dumps(figures | verdict | effects))
        else:
            spent = counted(found.spent, "call")
            self.stdout.write(f"ISBNdb counts {spent} of {found.total:,}; we count {found.used:,}.")
            if found.drift < 0 and not found.in_flight:
                self.stdout.write(
                    "Ours is higher, which is safe. If it stays so, you can take ISBNdb's figure on the page of the "
                    "reconciliation in the admin."
                )
            if known is not None:
                self.stdout.write(KEY_PRICES[known])
            if found.price_seen:
                self.stdout.write(PRICES_SEEN[found.price_seen])
            if found.limit_to is not None:
                self.stdout.write(f"Today's limit is {found.limit_to:,} now. It was {found.limit_from:,}.")
            if found.day_change:
                self.stdout.write(f"Today is {found.get_day_change_display()}.")
        if found.drift > 0:
            what = f"Our counter was raised by {found.raised_by:,}." if found.raised_by else found.ignored
            self.stderr.write(f"ISBNdb counts {counted(found.drift, 'call')} that we do not know of. {what}")
            raise SystemExit(4)

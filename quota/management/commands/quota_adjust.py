import getpass
import json as json_module
from argparse import ArgumentParser
from datetime import date
from typing import Any

from django.core.management.base import CommandError

from alexandria.common.commands import ToolCommand
from quota.exceptions import QuotaError
from quota.models import DailyLedger
from quota.services.corrections import adjust, would_adjust
from quota.services.reservations import EXTERNAL


class Command(ToolCommand):
    help = """\
Raises or lowers the used calls of a day's ledger, and records who did it and why. No limit refuses this.

exit codes:
  0  done
  1  refused, with the reason, or wrong usage"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--calls", type=int, required=True, help="Number of calls: 12 adds 12 calls, -12 takes 12 calls back."
        )
        parser.add_argument("--reason", required=True, help="Why. It stays on record with the ledger.")
        parser.add_argument(
            "--consumer", default=EXTERNAL, metavar="SLUG", help="The consumer to charge (default: %(default)s)."
        )
        parser.add_argument("--day", type=date.fromisoformat, metavar="YYYY-MM-DD", help="Default: today, UTC.")
        parser.add_argument(
            "--dry-run", action="store_true", help="Check the arguments and print the result, but change nothing."
        )
        parser.add_argument("--json", action="store_true", help='{"day", "consumer", "calls", "used", "safety_limit"}')

    def handle(self, *args: Any, calls: int, reason: str, consumer: str, day: date | None, **options: Any) -> None:
        dry_run = options["dry_run"]
        try:
            if dry_run:
                ledger = would_adjust(calls=calls, reason=reason, consumer=consumer, day=day)
            else:
                made = adjust(
                    calls=calls,
                    reason=reason,
                    consumer=consumer,
                    day=day,
                    made_with=f"manage.py quota_adjust, run by {getpass.getuser()}",
                )
                ledger = DailyLedger.objects.get(pk=made.ledger_id)
        except QuotaError as error:
            raise CommandError(str(error)) from error
        figures = {"day": str(ledger), "consumer": consumer, "calls": calls, "used": ledger.used}
        if options["json"]:
            self.stdout.write(json_module.dumps(figures | {"safety_limit": ledger.safety_limit}))
        else:
            now = "dry run, nothing is changed; the result would be" if dry_run else "now"
            self.stdout.write(
                f"{ledger}: {calls:+,} calls for {consumer}; {now} {ledger.used:,} of {ledger.safety_limit:,} used."
            )

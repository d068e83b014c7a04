import getpass
import json as json_module
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from alexandria.common.commands import ToolCommand
from alexandria.common.text import as_people_read, as_programs_read
from quota.exceptions import QuotaError
from quota.selectors.status import get_status
from quota.services.corrections import reopen_day


class Command(ToolCommand):
    help = """\
Opens today again after it was closed, and records who did it and why. If ISBNdb has nothing left, its next answer
closes the day again.

exit codes:
  0  done
  1  today is not closed, the database is out of reach, or wrong usage"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--reason", required=True, help="Why. It stays on record with the ledger.")
        parser.add_argument("--json", action="store_true", help='{"day", "closed_at", "closed_reason", "reopened_at"}')

    def handle(self, *args: Any, reason: str, json: bool, **options: Any) -> None:
        try:
            reopening = reopen_day(reason=reason, made_with=f"manage.py quota_reopen, run by {getpass.getuser()}")
        except QuotaError as error:
            raise CommandError(str(error)) from error
        if json:
            times = {"closed_at": as_programs_read(reopening.closed_at)}
            times["reopened_at"] = as_programs_read(reopening.reopened_at)
            figures = {"day": str(reopening.ledger_id), "closed_reason": reopening.closed_reason}
            self.stdout.write(json_module.dumps(figures | times))
        else:
            closed = f"{as_people_read(reopening.closed_at)}: {reopening.closed_reason}"
            self.stdout.write(f"{reopening.ledger_id} is open again. It was closed at {closed}")
            status = get_status()
            if not status.remaining:
                self.stdout.write(
                    f"No call is free: {status.used:,} of {status.safety_limit:,} are used. If the plan is larger now, "
                    "raise the daily limit under “Switches” in the admin, and apply it to today."
                )

import json
from argparse import ArgumentParser
from datetime import datetime
from typing import Any

from django.core.management.base import CommandError

from alexandria.common.commands import ToolCommand
from alexandria.common.text import as_people_read, counted
from quota.exceptions import QuotaUnavailable
from quota.models import DailyLedger, Reservation
from quota.selectors.prices import get_prices
from quota.selectors.status import QuotaStatus, check_ledger, effective_limits, get_status
from quota.serializers import status_detail


class Command(ToolCommand):
    help = """\
Prints today's quota and the open reservations.

exit codes:
  0  calls can be made
  1  the database is out of reach, wrong usage or, with --check, the ledger differs from the journal
  3  no call can be made"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="The body of GET /api/quota/status.")
        parser.add_argument(
            "--check", action="store_true", help="Also recompute the ledger from the journal and compare."
        )

    def handle(self, *args: Any, json: bool, check: bool, **options: Any) -> None:
        try:
            status = get_status()
            figures = status_detail(status)
            wrong = check_ledger(status.day) if check and DailyLedger.objects.filter(pk=status.day).exists() else []
        except QuotaUnavailable as error:
            raise CommandError(str(error)) from error
        if json:
            self.stdout.write(as_json(figures))
        else:
            self.stdout.write(f"{status.day} UTC: {status.used:,} of {status.safety_limit:,} calls used", ending="")
            self.stdout.write(
                f" ({status.percentage_used} %), {status.reserved:,} reserved, {status.remaining:,} free."
            )
            self.stdout.write(f"{counted(status.requests, 'request')} sent. {get_prices().in_words}")
            hours, minutes = divmod(status.seconds_to_reset // 60, 60)
            self.stdout.write(f"Reset at {as_people_read(status.reset_at)}, in {hours} h {minutes} min.")
            if status.enforcement == "observe":
                self.stdout.write("Observe mode: everything is counted, nothing is refused.")
            if figures["isbndb"]:
                self._print_counter(figures["isbndb"], effective_limits().daily_limit)
            self._print_standstill(status)
            holders = Reservation.objects.filter(state="open").select_related("consumer").order_by("created_at")
            for holder in holders[:20]:
                left = holder.calls - holder.dispatched
                self.stdout.write(
                    f"  {holder.consumer}, {holder.operation}: {left} of {holder.calls} calls reserved, "
                    f"lease until {as_people_read(holder.expires_at)}, reservation {holder.id}"
                )
        if wrong:
            lines = "; ".join(f"{item.what} is {item.figure}, its rows sum up to {item.rows}" for item in wrong)
            raise CommandError(f"The ledger differs from its rows: {lines}.")
        if check and not json:
            self.stdout.write("The ledger agrees with its rows.")
        if not status.can_make_calls:
            raise SystemExit(3)

    def _print_standstill(self, status: QuotaStatus) -> None:
        if status.closed_reason is not None:
            self.stdout.write(f"ISBNdb closed the day: {status.closed_reason}")
        if status.paused_until is not None:
            self.stdout.write(
                f"Nothing is sent until {as_people_read(status.paused_until, seconds=True)}: {status.paused_reason}"
            )

    def _print_counter(self, counter: dict[str, Any], daily_limit: int) -> None:
        ours = f"when we counted {counter['used']:,}"
        answered_at = datetime.fromisoformat(counter["answered_at"])
        self.stdout.write(f"ISBNdb counted {counter['spent']:,} at {as_people_read(answered_at)}, {ours}.")
        if counter["total"] < daily_limit:
            sold = f"ISBNdb sells {counter['total']:,} calls a day"
            self.stdout.write(f"{sold}: our daily limit of {daily_limit:,} is too high.")


def as_json(figures: object) -> str:
    return json.dumps(figures, indent=2)

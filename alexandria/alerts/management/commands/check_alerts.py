import json as json_module
from argparse import ArgumentParser
from collections.abc import Iterable
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError

from alexandria.alerts import delivery, services
from alexandria.alerts.models import Delivery, Severity, Webhook
from alexandria.alerts.rules import Finding
from alexandria.common.commands import ToolCommand
from alexandria.common.database import OUT_OF_REACH
from quota.exceptions import QuotaUnavailable


class Command(ToolCommand):
    help = """\
Checks the alert rules once and sends all due messages. Run it from cron as well: it works when all workers are dead.

exit codes:
  0  nothing is wrong, or there is only information
  1  the database does not answer, a test was not delivered, or wrong usage
  2  a warning
  3  something critical"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        instead = parser.add_mutually_exclusive_group()
        instead.add_argument("--dry-run", action="store_true", help="Write and send nothing.")
        instead.add_argument("--test", action="store_true", help="Only send a test message to every channel.")
        parser.add_argument(
            "--json",
            action="store_true",
            help='Print JSON: {"findings", "opened", "recovered"}, or tests.',
        )

    def handle(self, *args: Any, dry_run: bool, test: bool, json: bool, **options: Any) -> None:
        try:
            if test:
                self._test(as_json=json)
                return
            checked = services.would_check() if dry_run else services.check()
            if not dry_run:
                delivery.deliver_due()
        except (QuotaUnavailable, *OUT_OF_REACH) as error:
            raise CommandError(str(error)) from error
        opened = [alert.key for alert in checked.opened]
        recovered = [alert.key for alert in checked.recovered]
        if json:
            findings = [
                {"key": each.key, "severity": each.severity, "title": each.title, "detail": each.detail}
                for each in checked.findings
            ]
            self.stdout.write(
                json_module.dumps({"findings": findings, "opened": opened, "recovered": recovered}, indent=2)
            )
        else:
            for finding in checked.findings:
                new = " (new)" if finding.key in opened else ""
                self.stdout.write(f"{finding.severity:8} {finding.title}{new}. {finding.detail}")
            for alert in checked.recovered:
                self.stdout.write(f"{'over':8} {alert.title}")
            if not checked.findings:
                self.stdout.write("Nothing is wrong.")
        if code := exit_code(checked.findings):
            raise SystemExit(code)

    def _test(self, *, as_json: bool) -> None:
        channels: list[Webhook | None] = list(Webhook.objects.filter(active=True).exclude(url=""))
        if settings.ALERT_EMAIL_TO:
            channels.append(None)
        sent = [delivery.send_test(webhook) for webhook in channels]
        if as_json:
            results = [
                {"channel": each.channel, "to": each.to, "state": each.state, "status": each.status}
                | {"latency_ms": each.latency_ms, "error": each.error}
                for each in sent
            ]
            self.stdout.write(json_module.dumps(results, indent=2))
        else:
            for message in sent:
                result = f"status {message.status}" if message.status else message.error or "sent"
                self.stdout.write(f"{message.get_channel_display()} {message.to}: {result}, {message.latency_ms} ms")
        if not sent:
            raise CommandError("There is no channel to test. Set ALERT_EMAIL_TO or add a webhook in the admin.")
        if any(message.state != Delivery.State.DELIVERED for message in sent):
            raise CommandError("Not every test was delivered. See the errors above.")


def exit_code(findings: Iterable[Finding]) -> int:
    worst = max((finding.severity.rank for finding in findings), default=Severity.INFO.rank)
    return {Severity.INFO.rank: 0, Severity.WARNING.rank: 2, Severity.CRITICAL.rank: 3}[worst]

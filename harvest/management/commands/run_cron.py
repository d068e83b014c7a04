import json as json_module
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from alexandria.common.commands import ToolCommand
from alexandria.common.text import as_people_read, as_programs_read, counted
from harvest.crons.registry import CRONS, get_cron
from harvest.exceptions import HarvestError
from harvest.models import CronState, HarvestRun
from harvest.runs import forget_cursor, run_cron
from quota.exceptions import QuotaError
from quota.selectors.allowances import why_no_call
from quota.selectors.status import get_status

EXIT_CODES = {HarvestRun.Outcome.FAILED: 1, HarvestRun.Outcome.STOPPED: 2, HarvestRun.Outcome.SKIPPED: 3}


class Command(ToolCommand):
    help = """\
Runs a cron now, whatever its schedule.

exit codes:
  0  done, or nothing to do
  1  failed, refused, or wrong usage
  2  ended early by the quota; the next run continues there
  3  skipped; the output has the reason"""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", nargs="?", help="The cron to run; --list shows all of them.")
        parser.add_argument("--list", action="store_true", help="Show all crons, their consumers and their last runs.")
        parser.add_argument("--force", action="store_true", help="Run it even where the quota would skip it.")
        instead = parser.add_mutually_exclusive_group()
        instead.add_argument(
            "--dry-run", action="store_true", help="Show whether it would be skipped, and what stale-refresh costs."
        )
        instead.add_argument(
            "--reset-cursor",
            action="store_true",
            help="Only delete the cursor: the next run starts from the beginning, and ledger-check accepts past days.",
        )
        parser.add_argument(
            "--json",
            action="store_true",
            help='{"cron", "run", "outcome", "reason", "calls", "books"}; --dry-run of stale-refresh adds "plan"',
        )

    def handle(self, *args: Any, name: str | None, **options: Any) -> None:
        if options["list"]:
            self._list(as_json=options["json"])
            return
        if name is None:
            raise CommandError("Give the name of a cron, or --list.")
        try:
            if options["reset_cursor"]:
                forget_cursor(name)
                self.stdout.write(f"{name}: Cursor deleted.")
                return
            figures = self._judge(name) if options["dry_run"] else self._run(name, force=options["force"])
        except (HarvestError, QuotaError) as error:
            raise CommandError(str(error)) from error
        if options["json"]:
            self.stdout.write(json_module.dumps(figures))
        else:
            what = "Would run" if figures["outcome"] == "ready" else figures["outcome"].capitalize()
            reason = f": {figures['reason']}" if figures["reason"] else "."
            spent = (
                ""
                if options["dry_run"]
                else f" {counted(figures['calls'], 'call')}, {counted(figures['books'], 'book')}."
            )
            self.stdout.write(f"{name}: {what}{reason}{spent}{_plan_in_words(figures.get('plan'))}")
        if code := EXIT_CODES.get(figures["outcome"]):
            raise SystemExit(code)

    def _judge(self, name: str) -> dict[str, Any]:
        payer = get_cron(name).consumer
        reason = why_no_call(payer, get_status()) if payer else ""
        outcome = HarvestRun.Outcome.SKIPPED.value if reason else "ready"
        figures = {"cron": name, "run": None, "outcome": outcome, "reason": reason, "calls": 0, "books": 0}
        plan = get_cron(name).plan
        if plan is None:
            return figures
        state = CronState.objects.filter(pk=name).first()
        return figures | {"plan": plan(state.cursor if state else {}).as_dict()}

    def _run(self, name: str, *, force: bool) -> dict[str, Any]:
        run = run_cron(name, force=force)
        if run is None:
            raise RuntimeError("Only a scheduled run can have run before.")
        figures = {"outcome": run.outcome, "reason": run.reason, "calls": run.calls, "books": run.books}
        return {"cron": name, "run": run.pk} | figures

    def _list(self, *, as_json: bool) -> None:
        states = CronState.objects.in_bulk()
        last = {run.cron: run for run in HarvestRun.objects.order_by("cron", "-id").distinct("cron")}
        rows = [
            {
                "cron": cron.name,
                "consumer": cron.consumer or None,
                "last_tick_at": as_programs_read(state.last_tick_at) if state and state.last_tick_at else None,
                "running": bool(state and state.run_id),
                "last_run": run
                and {"started_at": as_programs_read(run.started_at), "outcome": run.outcome, "reason": run.reason},
            }
            for cron in CRONS.values()
            for state, run in [(states.get(cron.name), last.get(cron.name))]
        ]
        if as_json:
            self.stdout.write(json_module.dumps(rows))
            return
        for cron in CRONS.values():
            run = last.get(cron.name)
            state = states.get(cron.name)
            # Consecutive runs that did nothing share a row, so the last tick can be later than its start.
            ran = "not run yet"
            if run:
                at = max(run.started_at, (state and state.last_tick_at) or run.started_at)
                ran = f"{as_people_read(at)} {run.outcome} {run.reason:.80}"
            self.stdout.write(f"{cron.name:16} {cron.consumer or 'spends no calls':20} {ran}".rstrip())


def _plan_in_words(plan: dict[str, int] | None) -> str:
    """What a run would cost, by the plan and in batches alone."""
    if plan is None:
        return ""
    if not plan["editions"]:
        return " No book is stale, so it would cost nothing."
    listings = (
        f" ({counted(plan['listings'], 'author listing')} for {counted(plan['editions_by_listings'], 'edition')})"
        if plan["listings"]
        else ""
    )
    return (
        f" {counted(plan['editions'], 'edition')} for {counted(plan['calls'], 'call')}{listings}; "
        f"in batches alone {counted(plan['calls_by_batches'], 'call')}."
    )

"""manage.py run_cron, and the same from the admin."""

import json
import signal
import subprocess
import sys
import time
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command, get_commands, load_command_class
from django.test import Client
from django.urls import reverse

from alexandria.celery import app
from alexandria.common.heartbeats import LEASE
from alexandria.development.sandbox.server import Sandbox
from alexandria.env import BASE_DIR
from harvest.crons.registry import CRONS
from harvest.models import CronState, HarvestRun
from harvest.runs import run_cron
from quota.models import Consumer, Switches
from tests import processes
from tests.fixtures import NOON, SetClock, balance, database_moved, silent_port

Capture = pytest.CaptureFixture[str]

pytestmark = pytest.mark.usefixtures("defaults", "sandbox")


@pytest.mark.slow
def test_it_runs_a_cron_now_and_prints_the_result(capsys: Capture, sandbox: Sandbox) -> None:
    call_command("run_cron", "reconciliation")
    assert capsys.readouterr().out == "reconciliation: Succeeded. 1 call, 0 books.\n"
    call_command("run_cron", "reconciliation", "--json")
    run = HarvestRun.objects.first()
    assert json.loads(capsys.readouterr().out) == {
        "cron": "reconciliation",
        "run": run.pk,
        "outcome": "succeeded",
        "reason": "",
        "calls": 1,
        "books": 0,
    }
    assert balance(sandbox) == (2, 2)


def test_a_dry_run_spends_nothing_and_records_nothing(capsys: Capture, sandbox: Sandbox) -> None:
    call_command("run_cron", "new-releases", "--dry-run")
    Switches.objects.create(harvest_enabled=False)
    with pytest.raises(SystemExit) as left:
        call_command("run_cron", "new-releases", "--dry-run")
    assert left.value.code == 3
    assert capsys.readouterr().out.splitlines() == [
        "new-releases: Would run.",
        "new-releases: Skipped: Harvesting is switched off: crons and bulk work get no calls.",
    ]
    assert (sandbox.spent, HarvestRun.objects.count()) == (0, 0)


def test_the_exit_code_distinguishes_failed_stopped_and_skipped(sandbox: Sandbox, set_clock: SetClock) -> None:
    def code(*arguments: str) -> object:
        with pytest.raises(SystemExit) as left:
            call_command("run_cron", *arguments)
        return left.value.code

    sandbox.add_fault("daily_limit", path="/key")
    assert code("reconciliation") == 2
    assert code("reconciliation") == 2, "ISBNdb's counter is asked on a closed day too"
    assert code("stale-refresh") == 3
    set_clock(NOON + timedelta(days=1))
    sandbox.clear_faults()
    sandbox.add_fault("garbage")
    assert code("reconciliation") == 1


@pytest.mark.slow
def test_an_error_is_one_line() -> None:
    with pytest.raises(CommandError, match="There is no cron 'tea'"):
        call_command("run_cron", "tea")
    with pytest.raises(CommandError, match="--list"):
        call_command("run_cron")
    with silent_port() as port, database_moved(port), pytest.raises(CommandError, match="did not answer"):
        call_command("run_cron", "reconciliation")


def test_the_exit_code_of_wrong_usage_is_1() -> None:
    commands = "run_cron bulk_author_harvest smoke embedded isbndb_sandbox quota_adjust quota_status"
    for command in commands.split():
        parser = load_command_class(get_commands()[command], command).create_parser("manage.py", command)
        parser.called_from_command_line = True
        with pytest.raises(SystemExit) as left:
            parser.parse_args(["--no-such-option"])
        assert left.value.code == 1, command


def test_a_cursor_is_deleted_unless_a_run_is_in_progress(capsys: Capture, admin_client: Client) -> None:
    crons = CronState.objects.filter(name__in=["new-releases", "ledger-check"])
    crons.update(cursor={"resume": "where it was"})
    call_command("run_cron", "new-releases", "--reset-cursor")
    assert capsys.readouterr().out == "new-releases: Cursor deleted.\n"
    assert [state.cursor for state in crons.order_by("name")] == [{"resume": "where it was"}, {}]

    run = HarvestRun.objects.create(cron="new-releases", started_at=NOON)
    crons.filter(name="new-releases").update(run=run, lease_until=NOON + timedelta(days=1), cursor={"page": 2})
    with pytest.raises(CommandError, match="A run of new-releases is in progress"):
        call_command("run_cron", "new-releases", "--reset-cursor")
    chosen = {"action": "forget_cursors", "_selected_action": ["new-releases", "ledger-check"]}
    page = admin_client.post(reverse("admin:harvest_cronstate_changelist"), chosen, follow=True)
    assert [str(message) for message in page.context["messages"]] == [
        "A run of new-releases is in progress. Try again when it has ended.",
        "Deleted 1 cursor: ledger-check.",
    ]
    assert [state.cursor for state in crons.order_by("name")] == [{}, {"page": 2}]


def test_the_list_shows_every_cron_its_consumer_and_its_last_run_even_by_hand(capsys: Capture) -> None:
    run_cron("reconciliation")
    call_command("run_cron", "--list")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(CRONS)
    assert any("cron-reconciliation  2026-05-05 12:00 UTC succeeded" in line for line in lines)
    call_command("run_cron", "--list", "--json")
    rows = json.loads(capsys.readouterr().out)
    assert {row["consumer"] for row in rows if row["cron"].startswith(("open", "new"))} == {None, "cron-new-releases"}
    assert {row["last_run"]["outcome"] if row["last_run"] else None for row in rows} == {None, "succeeded"}


@pytest.mark.slow
def test_after_kill_9_the_next_tick_ends_the_run_and_records_its_calls(sandbox: Sandbox, set_clock: SetClock) -> None:
    sandbox.add_fault("latency", seconds=30)
    worker = subprocess.Popen(
        [sys.executable, str(BASE_DIR / "manage.py"), "run_cron", "reconciliation"],
        env=processes.environment(),
        stderr=subprocess.DEVNULL,
    )
    with worker:
        deadline = time.monotonic() + 60
        while not sandbox.spent:
            assert worker.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert run_cron("reconciliation").reason == "The previous run is still in progress."
        worker.kill()
    assert worker.returncode == -signal.SIGKILL
    sandbox.clear_faults()

    set_clock(NOON + LEASE + timedelta(minutes=5))
    run_cron("expire-leases", scheduled=True)
    dead = HarvestRun.objects.get(cron="reconciliation", calls=1)
    assert (dead.outcome, dead.reason) == ("failed", "Its worker died.")
    assert run_cron("reconciliation").outcome == "succeeded"
    assert balance(sandbox) == (2, 2)


@pytest.mark.slow
def test_runs_and_states_are_shown_in_the_admin_and_can_be_handed_to_the_workers(
    admin_client: Client, settings, django_assert_max_num_queries
) -> None:
    Consumer.objects.filter(slug="cron-reconciliation").update(active=False)
    for name in ("reconciliation", "open-ledger", "reconciliation"):
        run_cron(name)
    runs, states = (reverse(f"admin:harvest_{name}_changelist") for name in ("harvestrun", "cronstate"))
    with django_assert_max_num_queries(12):
        page = admin_client.get(f"{runs}?outcome=skipped")
    assert len(page.context["cl"].result_list) == 1
    assert "The consumer cron-reconciliation is switched off." in page.content.decode()
    run = HarvestRun.objects.first()
    assert admin_client.get(reverse("admin:harvest_harvestrun_change", args=[run.pk])).status_code == 200
    assert admin_client.post(reverse("admin:harvest_harvestrun_delete", args=[run.pk])).status_code == 403
    with django_assert_max_num_queries(12):
        assert admin_client.get(states).context["cl"].result_count == CronState.objects.count()

    app.control.purge()
    chosen = {"action": "run_now", "_selected_action": ["open-ledger", "prune-journal"]}
    page = admin_client.post(states, chosen, follow=True)
    said = str(next(iter(page.context["messages"])))
    assert said == "Sent 2 crons to the workers: open-ledger, prune-journal."
    with app.connection_for_read() as broker:
        queue = broker.SimpleQueue("celery")
        messages = [queue.get(timeout=5) for _ in range(2)]
        for message in messages:
            message.ack()
        queue.close()
    assert [message.payload[:2] for message in messages] == [
        [["open-ledger"], {"scheduled": False}],
        [["prune-journal"], {"scheduled": False}],
    ]

"""`manage.py check_alerts`, for a cron outside of Alexandria."""

import json
import threading
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from alexandria.alerts.models import Alert, Delivery, Webhook
from alexandria.common.timeouts import within
from quota.models import Call
from quota.services import reservations as quota
from tests.alexandria.alerts.receiver import Receiver
from tests.fixtures import database_moved

pytestmark = pytest.mark.usefixtures("at", "workers_there")


def run(*options: str) -> tuple[int, str]:
    """The exit code, and what was printed."""
    out = StringIO()
    try:
        call_command("check_alerts", *options, stdout=out)
    except SystemExit as left:
        return int(left.code or 0), out.getvalue()
    return 0, out.getvalue()


def use(calls: int) -> None:
    quota.increment(calls, note="test")
    Call.objects.update(dispatched_at="2026-05-05 03:00Z")


@pytest.mark.slow
def test_the_exit_code_is_the_worst_severity_and_due_messages_are_sent(
    webhook: Webhook, receiver: Receiver, workers_there: dict[str, list[str]]
) -> None:
    assert run() == (0, "Nothing is wrong.\n")
    use(6_500)
    code, printed = run()
    assert code == 0, "50 % is only information"
    assert printed.startswith("info     50 % of the calls of 2026-05-05 are used (new). 6,500 of 13,000 calls are used")
    use(3_900)
    assert run()[0] == 2
    workers_there.clear()
    assert run()[0] == 3
    assert "(new)" not in run()[1]
    assert Delivery.objects.filter(state="delivered").count() == len(receiver.received) == Alert.objects.count() == 4


def test_a_dry_run_writes_and_sends_nothing(webhook: Webhook, receiver: Receiver) -> None:
    use(10_400)
    code, printed = run("--dry-run", "--json")
    answer = json.loads(printed)
    assert (code, answer["opened"], answer["recovered"]) == (2, ["usage:2026-05-05:50", "usage:2026-05-05:80"], [])
    assert [finding["severity"] for finding in answer["findings"]] == ["info", "warning"]
    assert (Alert.objects.count(), Delivery.objects.count(), receiver.received) == (0, 0, [])


@pytest.mark.slow
def test_a_test_goes_to_every_channel_and_a_failure_gives_exit_code_1(
    webhook: Webhook, receiver: Receiver, mailing: None, mailoutbox: list[Any]
) -> None:
    code, printed = run("--test")
    assert code == 0
    assert printed.splitlines()[0].startswith("webhook chat: status 200, ")
    assert printed.splitlines()[1].startswith("e-mail ops@books.example, night@books.example: sent, ")
    assert len(mailoutbox) == 1
    receiver.answers = [500]
    out = StringIO()
    with pytest.raises(CommandError, match="Not every test was delivered"):
        call_command("check_alerts", "--test", "--json", stdout=out)
    assert [(each["channel"], each["state"], each["status"]) for each in json.loads(out.getvalue())] == [
        ("webhook", "failed", 500),
        ("email", "delivered", None),
    ]
    assert Alert.objects.count() == 0


def test_a_test_without_a_channel_fails() -> None:
    with pytest.raises(CommandError, match="There is no channel to test"):
        run("--test")


def test_without_a_database_the_command_reports_it() -> None:
    with database_moved(1), pytest.raises(CommandError, match="did not answer"):
        call_command("check_alerts")


def test_within_returns_the_result_or_raises_the_error_or_a_timeout() -> None:
    done = threading.Event()
    with pytest.raises(TimeoutError):
        within(0.01, lambda: done.wait(30))
    done.set()
    with pytest.raises(ZeroDivisionError):
        within(30, lambda: 1 // 0)
    assert within(30, lambda: "this") == "this"

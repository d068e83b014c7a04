"""manage.py create_api_key, quota_status and isbndb_key."""

import json
import subprocess
import sys
from datetime import UTC, datetime

import pytest
from django.core.management import CommandError, call_command
from rest_framework.test import APIClient

from alexandria.development.sandbox.server import Sandbox
from alexandria.env import BASE_DIR
from quota.models import Call, Consumer, ConsumerKey, ConsumerUsage, DailyLedger
from quota.prices import RequestKind
from quota.services import reservations
from tests import processes
from tests.fixtures import SetClock, balance, database_moved

Capture = pytest.CaptureFixture[str]


def gets_in(key: str) -> bool:
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Api-Key {key}")
    return client.get("/api/quota/status").status_code == 200


@pytest.mark.slow
def test_a_new_key_is_all_of_stdout_and_works_at_once(consumer: Consumer) -> None:
    manage = [sys.executable, str(BASE_DIR / "manage.py"), "create_api_key"]
    made = subprocess.run(
        [*manage, "Back office"], env=processes.environment(), capture_output=True, text=True, timeout=60, check=True
    )
    key = made.stdout.removesuffix("\n")
    assert key.split() == [key]
    assert gets_in(key)
    assert "Back office" in made.stderr
    assert key not in made.stderr
    assert ConsumerKey.objects.get(name="Back office").consumer.slug == "back-office"


@pytest.mark.parametrize(("given", "budget"), [([], 500), (["--daily-budget", "0"], 0)])
def test_a_new_consumer_gets_the_daily_budget_of_the_setting_or_its_own(
    transactional_db: None, settings, given: list[str], budget: int
) -> None:
    settings.CONSUMER_DAILY_BUDGET = 500
    call_command("create_api_key", "shelf\u200b", *given)
    assert Consumer.objects.get(slug="shelf").daily_budget == budget


def test_an_existing_consumer_can_have_another_key(consumer: Consumer, capsys: Capture) -> None:
    for name in ("first", "second"):
        call_command("create_api_key", name, "--consumer", "reader")
    keys = capsys.readouterr().out.split()
    assert len(set(keys)) == 2
    assert all(map(gets_in, keys))
    assert Consumer.objects.count() == 1


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["x", "--consumer", "nobody"], "--consumer: there is no consumer 'nobody'. There are: reader"),
        (["Reader"], "--consumer reader"),
        ([""], "NAME"),
        (["!!!"], "NAME"),
        (["x" * 51], "NAME"),
    ],
    ids=["unknown consumer", "taken", "empty", "no letter", "too long"],
)
def test_when_a_key_cannot_be_created_the_error_names_the_argument(
    consumer: Consumer, capsys: Capture, arguments: list[str], names: str
) -> None:
    with pytest.raises(CommandError) as caught:
        call_command("create_api_key", *arguments)
    assert names in str(caught.value)
    assert capsys.readouterr().out == ""
    assert not ConsumerKey.objects.exists()
    assert Consumer.objects.count() == 1


def test_the_status_is_printed_in_words(consumer: Consumer, set_clock: SetClock, capsys: Capture) -> None:
    set_clock(datetime(2026, 5, 5, 12, 30, 30, tzinfo=UTC))
    reservations.increment(8_456)
    call_command("quota_status")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "2026-05-05 UTC: 8,456 of 13,000 calls used (65 %), 0 reserved, 4,544 free."
    assert lines[1] == "0 requests sent. A batch costs 1 call (set by ISBNDB_BATCH_PRICE)."
    assert lines[2].startswith("Reset at 2026-05-06 00:00 UTC, in 11 h ")
    assert len(lines) == 3


def test_the_status_as_json_is_that_of_the_api(api: APIClient, capsys: Capture) -> None:
    reservations.increment(5)
    call_command("quota_status", "--json")
    assert json.loads(capsys.readouterr().out) == api.get("/api/quota/status").json()


def test_the_status_says_when_isbndb_sells_less_than_our_limit(
    sandbox: Sandbox, consumer: Consumer, capsys: Capture
) -> None:
    sandbox.set_limits(daily_limit=5_000)
    call_command("isbndb_key")
    call_command("quota_status")
    line = "ISBNdb sells 5,000 calls a day: our daily limit of 15,000 is too high."
    assert line in capsys.readouterr().out


def test_when_nothing_is_left_the_exit_code_is_3(consumer: Consumer, capsys: Capture) -> None:
    reservations.increment(13_000)
    with pytest.raises(SystemExit) as caught:
        call_command("quota_status")
    assert caught.value.code == 3
    assert "0 free" in capsys.readouterr().out


def test_while_observing_the_status_says_so_and_exits_with_0_when_nothing_is_left(
    consumer: Consumer, settings, capsys: Capture
) -> None:
    settings.QUOTA_ENFORCEMENT = "observe"
    reservations.increment(13_000)
    call_command("quota_status")
    assert "Observe mode" in capsys.readouterr().out


def test_a_closed_day_is_printed_with_the_answer_of_isbndb(consumer: Consumer, capsys: Capture) -> None:
    reservations.open_ledger()
    DailyLedger.objects.update(closed_at="2026-05-05T10:00:00Z", closed_reason="Daily quota exceeded")
    with pytest.raises(SystemExit):
        call_command("quota_status")
    assert "ISBNdb closed the day: Daily quota exceeded" in capsys.readouterr().out


def test_a_check_finds_a_figure_that_differs_from_its_rows(
    consumer: Consumer, capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("quota_status", "--check")  # no ledger yet
    assert "The ledger agrees with its rows." in capsys.readouterr().out
    reservations.increment(7, consumer="reader")
    call_command("quota_status", "--check")
    DailyLedger.objects.update(used=6)
    ConsumerUsage.objects.update(used=5)
    with pytest.raises(CommandError) as caught:
        call_command("quota_status", "--check")
    assert "used is 6, its rows sum up to 7; used by reader is 5, its rows sum up to 7" in str(caught.value)


def test_without_postgresql_the_status_says_so(consumer: Consumer) -> None:
    with database_moved(port=1), pytest.raises(CommandError, match="did not answer"):
        call_command("quota_status")


def test_isbndbs_counter_is_printed_with_ours(sandbox: Sandbox, consumer: Consumer, capsys: Capture) -> None:
    call_command("isbndb_key")
    assert capsys.readouterr().out == "ISBNdb counts 1 call of 15,000; we count 1.\n"
    call_command("isbndb_key", "--json")
    figures = json.loads(capsys.readouterr().out)
    agreed = {
        "drift": 0,
        "raised_by": 0,
        "ignored": "",
        "key_price": 1,
        "day_change": "",
        "price_seen": "",
        "limit_to": None,
    }
    assert figures == {"isbndb_spent": 2, "isbndb_limit": 15_000, "used": 2} | agreed
    assert list(Call.objects.values_list("consumer__slug", "path", "outcome")) == [("operator", "/key", "ok")] * 2
    assert balance(sandbox) == (2, 2)


def test_calls_that_only_isbndb_counts_give_the_exit_code_4(
    sandbox: Sandbox, consumer: Consumer, capsys: Capture
) -> None:
    sandbox.set_limits(spent=41)
    with pytest.raises(SystemExit) as caught:
        call_command("isbndb_key", "--json")
    assert caught.value.code == 4
    output = capsys.readouterr()
    assert json.loads(output.out)["drift"] == 41
    assert "41 calls that we do not know of. Our counter was raised by 41." in output.err
    assert balance(sandbox) == (42, 42)


def test_calls_that_only_we_count_are_no_drift(sandbox: Sandbox, consumer: Consumer, capsys: Capture) -> None:
    reservations.increment(10)
    call_command("isbndb_key", "--json")
    assert json.loads(capsys.readouterr().out)["drift"] == -10


def test_when_isbndb_cannot_answer_the_command_says_why(sandbox: Sandbox, consumer: Consumer, settings) -> None:
    settings.ISBNDB_API_KEY = "wrong"
    with pytest.raises(CommandError, match="does not accept our key"):
        call_command("isbndb_key")
    reservations.increment(13_000)
    with pytest.raises(CommandError, match="used or reserved"):
        call_command("isbndb_key")


def test_the_status_lists_the_open_reservations(consumer: Consumer, capsys: Capture) -> None:
    reservation = reservations.reserve(consumer="reader", operation="shelf", calls=5)
    reservations.dispatch(reservation, kind=RequestKind.PAGE, method="GET", path="/author/x")
    call_command("quota_status")
    assert "reader, shelf: 4 of 5 calls reserved, lease until 2026-05-05 12:0" in (printed := capsys.readouterr().out)
    assert str(reservation) in printed

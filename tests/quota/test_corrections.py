"""services.corrections.adjust, and the command and admin page that call it: a person corrects a ledger, on record."""

import json
from datetime import timedelta
from typing import Any
from unittest.mock import patch

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import DataError
from django.forms import model_to_dict
from django.test import Client
from django.urls import reverse
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from quota.exceptions import ConsumerUnknown, CorrectionRefused, LedgerNotOpen, QuotaRefused, QuotaUnavailable
from quota.models import Adjustment, Call, Consumer, ConsumerUsage, DailyLedger
from quota.selectors.status import check_ledger, get_status
from quota.services import reservations
from quota.services.corrections import adjust
from tests.fixtures import NOON, SetClock

TODAY = NOON.date()


@pytest.fixture(autouse=True)
def ten_calls_used(consumer: Consumer) -> None:
    reservations.increment(10, consumer="reader")


def correct(calls: int, **options: Any) -> Adjustment:
    given: dict[str, Any] = {"reason": "a test", "made_with": "a test", "consumer": "reader"}
    return adjust(calls=calls, **given | options)


def used() -> int:
    status = get_status()
    assert check_ledger(status.day) == []
    return status.used


def test_an_adjustment_raises_or_lowers_the_figure_with_a_journal_row_and_a_reason() -> None:
    correct(5, reason="the old system made them")
    assert used() == 15
    correct(-12, reason="they were never sent")
    assert used() == 3
    assert list(Call.objects.filter(outcome="adjusted").values_list("calls", flat=True)) == [-12, 5]
    assert [made.reason for made in Adjustment.objects.all()] == ["they were never sent", "the old system made them"]


def test_no_limit_refuses_a_correction_and_after_it_nothing_is_granted() -> None:
    correct(13_000)
    assert used() == 13_010
    with pytest.raises(QuotaRefused):
        reservations.reserve(consumer="reader", operation="test", calls=1)


def test_an_adjustment_that_cannot_be_recorded_changes_no_ledger() -> None:
    with pytest.raises(DataError):
        correct(-4, made_with="x" * 201)
    assert used() == 10
    correct(-4)
    assert used() == 6


def test_more_than_a_consumer_has_used_cannot_be_taken_back_and_the_error_lists_who_used_calls() -> None:
    with pytest.raises(CorrectionRefused, match=r"reader has not used 11 calls .* Used on that day: reader 10"):
        correct(-11)
    assert used() == 10
    assert not Adjustment.objects.exists()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"calls": 0}, CorrectionRefused),
        ({"calls": 1_000_001}, CorrectionRefused),
        ({"calls": -(2**40)}, CorrectionRefused),
        ({"reason": " "}, CorrectionRefused),
        ({"consumer": "nobody"}, ConsumerUnknown),
        ({"day": TODAY - timedelta(days=1)}, LedgerNotOpen),
    ],
)
def test_an_adjustment_that_makes_no_sense_changes_nothing(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        correct(**({"calls": 1} | options))
    assert used() == 10
    assert not Adjustment.objects.exists()


def test_a_past_day_is_corrected_without_changing_today(set_clock: SetClock) -> None:
    set_clock(NOON + timedelta(days=1))
    reservations.open_ledger()
    correct(-4, day=TODAY)
    assert DailyLedger.objects.get(day=TODAY).used == 6
    assert used() == 0


@examples(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(-20, 20), max_size=8))
@pytest.mark.slow
def test_after_any_adjustments_the_ledger_is_the_sum_of_its_journal(corrections: list[int]) -> None:
    expected = used()
    for calls in corrections:
        if calls and expected + calls >= 0:
            correct(calls)
            expected += calls
        elif calls:
            with pytest.raises(CorrectionRefused):
                correct(calls)
    assert used() == expected == ConsumerUsage.objects.get(consumer__slug="reader").used


def test_the_command_prints_the_new_figure_of_the_day(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("quota_adjust", "--calls", "-3", "--reason", "counted twice", "--consumer", "reader")
    assert capsys.readouterr().out == "2026-05-05: -3 calls for reader; now 7 of 13,000 used.\n"
    call_command("quota_adjust", "--calls=2", "--reason=by hand", "--json")
    assert json.loads(capsys.readouterr().out) == {
        "day": "2026-05-05",
        "consumer": "external",
        "calls": 2,
        "used": 9,
        "safety_limit": 13_000,
    }
    assert Adjustment.objects.filter(made_with__startswith="manage.py quota_adjust, run by ").count() == 2


@pytest.mark.parametrize("dry_run", [[], ["--dry-run"]])
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--calls=-11", "--consumer=reader"], "has not used"),
        (["--calls=1", "--consumer=nobody"], "no consumer 'nobody'"),
        (["--calls=1", "--day=2026-05-04"], "2026-05-04 has no ledger"),
        (["--calls=1", "--day=2026-13-01"], "--day"),
        (["--calls=2147483647"], "from 1 to 1,000,000"),
    ],
)
def test_the_command_refuses_with_a_reason_also_in_a_dry_run(
    arguments: list[str], said: str, dry_run: list[str]
) -> None:
    with pytest.raises(CommandError, match=said):
        call_command("quota_adjust", *arguments, "--reason=x", *dry_run)
    assert used() == 10


def test_a_dry_run_prints_the_result_and_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("quota_adjust", "--calls=5", "--reason=x", "--dry-run")
    said = "2026-05-05: +5 calls for external; dry run, nothing is changed; the result would be 15 of 13,000 used.\n"
    assert capsys.readouterr().out == said
    call_command("quota_adjust", "--calls=-4", "--reason=x", "--consumer=reader", "--dry-run", "--json")
    assert json.loads(capsys.readouterr().out)["used"] == 6
    assert used() == 10


@pytest.mark.slow
def test_an_adjustment_in_the_admin_records_the_user(admin_client: Client) -> None:
    page, reader = reverse("admin:quota_adjustment_add"), Consumer.objects.get(slug="reader")
    wrong = admin_client.post(page, {"ledger": TODAY, "consumer": reader.pk, "calls": -11, "reason": "typed too many"})
    assert "reader has not used 11 calls" in wrong.content.decode()
    assert "typed too many" in wrong.content.decode()
    assert used() == 10

    done = admin_client.post(page, {"ledger": TODAY, "consumer": reader.pk, "calls": -4, "reason": "never sent"})
    assert done.status_code == 302
    assert used() == 6
    made = Adjustment.objects.get()
    assert (made.made_by, made.made_with) == (User.objects.get(username="admin"), "the admin")
    assert LogEntry.objects.get().change_message == "Adjusted by -4. Reason: never sent"
    assert "never sent" in admin_client.get(reverse("admin:quota_adjustment_changelist")).content.decode()
    assert admin_client.post(reverse("admin:quota_adjustment_delete", args=[made.pk])).status_code == 403


def test_an_error_after_the_form_was_checked_is_a_message_in_the_admin(admin_client: Client) -> None:
    page, reader = reverse("admin:quota_adjustment_add"), Consumer.objects.get(slug="reader")
    given = {"ledger": TODAY, "consumer": reader.pk, "calls": 2_147_483_647, "reason": "a slip"}
    assert "from 1 to 1,000,000" in admin_client.post(page, given).content.decode()
    with patch("quota.admin.corrections.adjust", side_effect=QuotaUnavailable("It did not answer in time.")):
        said = admin_client.post(page, given | {"calls": 1}, follow=True).content.decode()
    assert "The ledger was not changed. It did not answer in time." in said
    assert used() == 10


def test_adjust_returns_what_is_stored() -> None:
    made = correct(1, reason=" twice ")
    stored = Adjustment.objects.get()
    assert model_to_dict(made) == model_to_dict(stored)
    assert (stored.ledger_id, stored.reason, stored.created_at) == (TODAY, "twice", made.created_at)

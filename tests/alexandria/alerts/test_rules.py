"""Each rule on its own: what it finds in which snapshot, and what it does not find."""

import re
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from alexandria.admin.site import GROUPS
from alexandria.alerts.prometheus import PROMETHEUS_RULES
from alexandria.alerts.rules import RULES, find
from alexandria.alerts.snapshot import Snapshot
from harvest.models import HarvestRun
from quota.selectors.prices import PriceChange
from quota.selectors.status import QuotaStatus
from tests.fixtures import NOON

STATUS = QuotaStatus(
    day=NOON.date(),
    daily_limit=15_000,
    safety_limit=13_000,
    used=0,
    reserved=0,
    requests=0,
    max_rps=3,
    pace=timedelta(seconds=0.35),
    midnight_guard=timedelta(seconds=2),
    closed_reason=None,
    enforcement="enforce",
    harvest_enabled=True,
    now=NOON,
)
QUEUES = {"celery": ["celery@one"], "jobs": ["jobs@one"], "alerts": ["celery@one", "jobs@one"]}
CHANGE = PriceChange(
    measurement=7, price="1 call for each ISBN", how="seen by a reconciliation", seen_at=NOON, chosen_instead=""
)
MORNING = NOON.replace(hour=0, minute=20)


def snapshot(status: dict[str, Any] | None = None, **others: Any) -> Snapshot:
    """A normal day, except for what is given."""
    return replace(Snapshot(replace(STATUS, **(status or {})), queues=QUEUES), **others)


def found(status: dict[str, Any] | None = None, **others: Any) -> dict[str, str]:
    return {finding.key: finding.severity.value for finding in find(snapshot(status, **others)) if finding.opens}


def test_nothing_is_found_on_a_normal_day() -> None:
    assert found({"used": 6_499}, last_hour=100, answered=900, errors={"timeout": 100}, drift=9, leases_expired=4) == {}


@pytest.mark.parametrize(
    ("used", "percents"),
    [
        (6_499, []),
        (6_500, [50]),
        (10_399, [50]),
        (10_400, [50, 80]),
        (12_350, [50, 80, 95]),
        (12_999, [50, 80, 95]),
        (13_000, [50, 80, 95, 100]),
        (14_000, [50, 80, 95, 100]),
    ],
)
def test_each_step_of_use_is_found_on_each_day(used: int, percents: list[int]) -> None:
    assert list(found({"used": used})) == [f"usage:2026-05-05:{percent}" for percent in percents]
    tomorrow = {"used": used, "day": NOON.date() + timedelta(days=1), "now": NOON + timedelta(days=1)}
    assert list(found(tomorrow)) == [f"usage:2026-05-06:{percent}" for percent in percents]


@pytest.mark.parametrize(
    ("status", "last_hour", "opens"),
    [
        ({"used": 6_000}, 700, True),  # 7,000 left, 700 an hour, twelve hours to go
        ({"used": 6_000}, 600, False),
        ({"used": 6_000}, 0, False),
        ({"used": 3_249}, 9_000, False),  # too few used to say
        ({"used": 6_000, "now": MORNING}, 5_000, False),  # too early to say
        ({"used": 6_000, "now": MORNING + timedelta(minutes=15)}, 2_000, True),
        (
            {"used": 12_999, "now": NOON + timedelta(hours=11, minutes=45)},
            1_000,
            False,
        ),  # too late to matter
        ({"used": 13_000}, 9_000, False),  # none is left
    ],
)
def test_the_forecast_opens_when_the_calls_run_out_well_before_the_reset(
    status: dict[str, Any], last_hour: int, *, opens: bool
) -> None:
    assert ("forecast:2026-05-05" in found(status, last_hour=last_hour)) is opens


@pytest.mark.parametrize(
    ("status", "last_hour", "is_kept"),
    [
        ({"used": 6_000}, 600, True),  # until 23:40
        ({"used": 6_000}, 583, False),
        ({"used": 13_000}, 0, True),  # none is left
        ({"used": 6_000, "closed_reason": "Gone."}, 0, True),
    ],
)
def test_an_open_forecast_is_over_when_the_calls_last_and_stays_when_they_are_used_up(
    status: dict[str, Any], last_hour: int, *, is_kept: bool
) -> None:
    kept = [each for each in find(snapshot(status, last_hour=last_hour)) if each.rule == "forecast"]
    assert [each.opens for each in kept] == [False] * is_kept


def test_a_changed_price_says_when_somebody_has_chosen_another() -> None:
    [finding] = find(snapshot(price_change=CHANGE))
    assert finding.detail.startswith("A batch costs 1 call for each ISBN, seen by a reconciliation at 2026-05-05 12:00")
    assert "says otherwise" not in finding.detail
    [finding] = find(snapshot(price_change=replace(CHANGE, chosen_instead="switch")))
    assert "But the switch says otherwise" in finding.detail


def test_the_forecast_says_when() -> None:
    [finding] = [each for each in find(snapshot({"used": 6_000}, last_hour=3_500)) if each.rule == "forecast"]
    assert finding.detail == (
        "The pace is 3,500 calls an hour and 7,000 are left: they last until about 2026-05-05 14:00 UTC. "
        "“Consumers” in the admin shows who spends them."
    )


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        ({"drift": 10}, {"drift:2026-05-05": "critical"}),
        ({"status": {"closed_reason": "Gone."}}, {"closed_day:2026-05-05": "critical"}),
        ({"price_change": CHANGE}, {"batch_price_changed:7": "critical"}),
        ({"sold": 500, "configured_limit": 15_000}, {"sold_less:2026-05-05:500": "warning"}),
        ({"sold": 15_000, "configured_limit": 15_000}, {}),
        ({"status": {"enforcement": "observe"}}, {"observing": "info"}),
        ({"queues": {"alerts": ["jobs@one"], "jobs": ["jobs@one"]}}, {"workers:celery": "critical"}),
        ({"queues": {"celery": ["celery@one"], "jobs": []}}, {"workers:jobs": "critical"}),
        ({"queues": None}, {"workers:celery": "critical", "workers:jobs": "critical"}),
        ({"leases_expired": 5}, {"leases": "warning"}),
        ({"late_crons": {"update-feed": NOON, "open-ledger": NOON}}, {"late_crons": "warning"}),
        ({"answers_aside": 1}, {"unstored_answers": "critical"}),
        ({"bad_answers": 1}, {"unstored_answers": "critical"}),
        ({"answered": 15, "errors": {"timeout": 4, "server_error": 1}}, {"error_rate": "warning"}),
        ({"answered": 16, "errors": {"timeout": 4, "server_error": 1}}, {}),
        ({"answered": 0, "errors": {"timeout": 19}}, {}),
        ({"answered": 0, "errors": {"timeout": 20}}, {"error_rate": "warning"}),
    ],
)
def test_each_other_rule_finds_its_problem(others: dict[str, Any], expected: dict[str, str]) -> None:
    assert found(**others) == expected


def test_each_failed_cron_is_a_finding_and_a_failed_ledger_check_is_critical() -> None:
    runs = [HarvestRun(pk=1, cron=cron, started_at=NOON, reason="x" * 900) for cron in ("update-feed", "ledger-check")]
    assert found(failed_crons=runs) == {"failed_cron:update-feed": "warning", "failed_cron:ledger-check": "critical"}
    assert all(len(finding.detail) < 600 for finding in find(snapshot(failed_crons=runs)))


def test_thresholds_are_settings(settings) -> None:
    settings.QUOTA_DRIFT_ALERT, settings.ALERT_LEASES_EXPIRED, settings.ALERT_ERROR_PERCENT = 1, 1, 5
    assert set(found(drift=1, leases_expired=1, answered=19, errors={"refused": 1})) == {
        "drift:2026-05-05",
        "leases",
        "error_rate",
    }


def test_every_page_that_an_advice_names_is_in_the_sidebar_of_the_admin() -> None:
    pages = {page.title for group in GROUPS.values() for page in group}
    named = {page for rule in (*RULES, *PROMETHEUS_RULES) for page in re.findall("“(\\w+)” in the admin", rule.advice)}
    assert {"Consumers", "Runs", "Queue"} <= named <= pages

"""Alerts open once and end once, from what the database holds."""

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from importlib import import_module

import pytest
from django.apps import apps
from django.contrib.auth.models import Group
from django.db import IntegrityError, connection
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from alexandria.alerts import services
from alexandria.alerts.models import Alert, Delivery, Severity, Webhook
from alexandria.alerts.rules import Finding
from alexandria.alerts.selectors import open_alerts
from alexandria.alerts.services import HOLD, apply, check
from harvest.defaults import ensure_defaults
from harvest.models import CronState, HarvestRun
from quota.models import Call, Consumer, DailyLedger, Reconciliation, Reservation, Switches
from quota.services import reservations as quota
from tests.fixtures import NOON, At

pytestmark = pytest.mark.usefixtures("at", "workers_there")

HELD = HOLD.total_seconds()
MIDNIGHT = 12 * 3600
FIRE = Finding("fire", "fire", Severity.CRITICAL, "It burns", "In the cellar.")


def keys(alerts: list[Alert]) -> set[str]:
    return {alert.key for alert in alerts}


def use(calls: int) -> None:
    """Calls of the early morning, so that the forecast ignores them."""
    quota.increment(calls, note="test")
    Call.objects.update(dispatched_at=NOON - timedelta(hours=9))


def journal(consumer: Consumer, outcomes: dict[str, int], *, moment: datetime = NOON) -> None:
    """Calls of this moment."""
    quota.open_ledger()
    reservation = quota.reserve(consumer=consumer.slug, operation="test", calls=1)
    Call.objects.bulk_create(
        Call(
            ledger=DailyLedger.objects.get(),
            consumer=consumer,
            reservation_id=reservation,
            operation="test",
            outcome=outcome,
            dispatched_at=moment,
            send_at=moment,
        )
        for outcome, count in outcomes.items()
        for _ in range(count)
    )
    quota.settle(reservation)


@pytest.mark.slow
def test_each_step_of_use_opens_once_and_recovers_on_the_next_day(at: At, webhook: Webhook, mailing: None) -> None:
    use(6_500)
    assert keys(check().opened) == {"usage:2026-05-05:50"}
    assert check().opened == []
    use(6_500)
    at(30)
    assert keys(check().opened) == {f"usage:2026-05-05:{percent}" for percent in (80, 95, 100)}
    at(MIDNIGHT - 1)
    assert (check().opened, len(open_alerts())) == ([], 4)
    at(MIDNIGHT + 30)
    assert check().recovered == []
    at(MIDNIGHT + HELD)
    assert len(check().recovered) == 4
    messages = Delivery.objects.filter(event="alert.recovered").order_by("channel")
    assert [message.payload["data"]["alert"]["key"] for message in messages if message.channel == "email"] == [
        "usage:2026-05-05:100"
    ]
    assert sum(message.channel == "webhook" for message in messages) == 4, "webhooks get each recovery"
    assert open_alerts() == []
    assert check().recovered == []
    use(6_500)
    assert keys(check().opened) == {"usage:2026-05-06:50"}


def test_the_most_severe_and_then_the_newest_alerts_come_first(at: At) -> None:
    use(10_400)
    check()
    at(60)
    use(2_600)
    check()
    assert [alert.key.split(":")[2] for alert in open_alerts()] == ["100", "95", "80", "50"]


def test_errors_are_judged_by_requests_whatever_these_cost(at: At, consumer: Consumer) -> None:
    journal(consumer, {"ok": 19, "timeout": 1})
    Call.objects.filter(outcome="timeout").update(calls=1_000)
    assert "error_rate" not in keys(check().opened)
    journal(consumer, {"timeout": 10})
    assert "error_rate" in keys(check().opened)


def test_just_after_midnight_the_failures_of_just_before_count(at: At, consumer: Consumer) -> None:
    at(MIDNIGHT - 60)
    journal(consumer, {"timeout": 20}, moment=NOON + timedelta(seconds=MIDNIGHT - 60))
    at(MIDNIGHT + 60)
    assert "error_rate" in keys(check().opened)


def break_forecast(consumer: Consumer) -> None:
    journal(consumer, {"ok": 1_000})
    DailyLedger.objects.update(used=4_000)


def break_drift(consumer: Consumer) -> None:
    quota.open_ledger()
    ledger = DailyLedger.objects.get()
    figures = {"spent": 20, "total": 15_000, "left": 14_980, "used": 10, "in_flight": 0, "raised_by": 10}
    Reconciliation.objects.create(ledger=ledger, answered_at=NOON, **figures)


def break_closed_day(consumer: Consumer) -> None:
    quota.open_ledger()
    DailyLedger.objects.update(closed_at=NOON, closed_reason="ISBNdb said so.")


def break_errors(consumer: Consumer) -> None:
    journal(consumer, {"ok": 12, "not_found": 3, "timeout": 5, "unknown": 50, "not_sent": 50})


def break_leases(consumer: Consumer) -> None:
    for number in range(5):
        quota.reserve(consumer=consumer.slug, operation=f"died {number}", calls=1, lease=timedelta(seconds=1))
    Reservation.objects.update(state="expired", closed_at=NOON)
    DailyLedger.objects.update(reserved=0)


def break_switches(consumer: Consumer) -> None:
    Switches.objects.update_or_create(pk=1, defaults={"enforcement": "observe"})


def mend_switches() -> None:
    Switches.objects.update(enforcement="enforce")


def break_cron(consumer: Consumer) -> None:
    CronState.objects.create(name="update-feed")
    runs = [("failed", "Boom."), ("skipped", "No quota."), ("running", "")]
    for outcome, reason in runs:
        ended_at = None if outcome == "running" else NOON
        HarvestRun.objects.create(
            cron="update-feed", started_at=NOON, ended_at=ended_at, outcome=outcome, reason=reason
        )


def mend_cron() -> None:
    HarvestRun.objects.filter(outcome="running").update(outcome="idle", ended_at=NOON)


def break_schedule(consumer: Consumer) -> None:
    CronState.objects.create(name="open-ledger", last_tick_at=NOON - timedelta(minutes=11))
    every = IntervalSchedule.objects.create(every=30, period="seconds")
    row = PeriodicTask.objects.create(
        name="open", task="harvest.tasks.run_cron", args='["open-ledger"]', interval=every, last_run_at=NOON
    )
    PeriodicTask.objects.filter(pk=row.pk).update(date_changed=NOON - timedelta(days=1))


def mend_schedule() -> None:
    CronState.objects.update(last_tick_at=NOON + timedelta(hours=2))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "go_wrong", "mend", "over_at"),
    [
        ("forecast:2026-05-05", break_forecast, None, 2 * 3600),
        ("drift:2026-05-05", break_drift, None, MIDNIGHT),
        ("closed_day:2026-05-05", break_closed_day, None, MIDNIGHT),
        ("error_rate", break_errors, None, 16 * 60),
        ("leases", break_leases, None, 3601),
        ("observing", break_switches, mend_switches, 60),
        ("failed_cron:update-feed", break_cron, mend_cron, 60),
        ("late_crons", break_schedule, mend_schedule, 60),
    ],
)
def test_each_rule_opens_and_recovers(
    key: str,
    go_wrong: Callable[[Consumer], None],
    mend: Callable[[], None] | None,
    over_at: int,
    consumer: Consumer,
    at: At,
) -> None:
    at(0)
    assert check().findings == []
    go_wrong(consumer)
    at(1)
    assert keys(check().opened) == {key}
    at(over_at)
    if mend:
        mend()
    assert [finding.key for finding in check().findings] == []
    at(over_at + HELD + 1)
    check()
    assert [alert.key for alert in Alert.objects.exclude(recovered_at=None)] == [key]


def test_a_cron_is_not_late_when_it_was_just_switched_on(consumer: Consumer) -> None:
    break_schedule(consumer)
    PeriodicTask.objects.update(last_run_at=None, date_changed=NOON - timedelta(minutes=1))
    assert check().findings == []
    PeriodicTask.objects.update(enabled=False, date_changed=NOON - timedelta(days=1))
    assert check().findings == []
    PeriodicTask.objects.update(enabled=True)
    assert [finding.rule for finding in check().findings] == ["late_crons"]


@pytest.mark.slow
def test_a_problem_that_comes_and_goes_is_reported_once(workers_there: dict[str, list[str]], at: At) -> None:
    for minute in range(0, 20, 2):
        workers_there.pop("jobs", None)
        at(60 * minute)
        check()
        workers_there["jobs"] = ["jobs@here"]
        at(60 * minute + 60)
        check()
    assert Alert.objects.filter(recovered_at=None).count() == Alert.objects.count() == 1
    at(60 * 30)
    assert keys(check().recovered) == {"workers:jobs"}


@pytest.mark.slow
def test_a_forecast_stays_open_when_it_comes_true_and_is_not_reported_again(consumer: Consumer, at: At) -> None:
    break_forecast(consumer)
    assert keys(check().opened) == {"forecast:2026-05-05"}
    DailyLedger.objects.update(used=13_000)
    at(3 * 3600)
    assert "forecast:2026-05-05" in keys(open_alerts())
    assert check().recovered == []
    at(3 * 3600 + HELD)
    assert check().recovered == []
    at(MIDNIGHT + HELD)
    assert "forecast:2026-05-05" in keys(check().recovered)
    at(0)
    assert "forecast:2026-05-05" not in {finding.key for finding in services.would_check().findings}


@pytest.mark.parametrize("checkers", [8])
def test_of_many_checks_at_once_one_opens_and_one_ends_the_alert(checkers: int, webhook: Webhook, at: At) -> None:
    results: list[tuple[int, int]] = []

    def run(findings: list[Finding], seconds: float) -> None:
        start = threading.Barrier(checkers)

        def one() -> None:
            connection.ensure_connection()
            start.wait(30)
            opened, recovered = apply(findings, now=NOON + timedelta(seconds=seconds))
            results.append((len(opened), len(recovered)))
            connection.close()

        threads = [threading.Thread(target=one) for _ in range(checkers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    run([FIRE], 0)
    assert sorted(results) == [(0, 0)] * (checkers - 1) + [(1, 0)]
    results.clear()
    run([], HELD)
    assert sorted(results) == [(0, 0)] * (checkers - 1) + [(0, 1)]
    assert sorted(Delivery.objects.values_list("event", flat=True)) == ["alert.opened", "alert.recovered"]


def test_the_database_allows_one_open_alert_for_each_key() -> None:
    apply([FIRE], now=NOON)
    with pytest.raises(IntegrityError, match="alerts_alert_one_open_of_a_key"):
        Alert.objects.create(key="fire", rule="fire", severity="info", opened_at=NOON, last_seen_at=NOON)


def test_every_channel_that_receives_the_severity_gets_a_message(settings, webhook: Webhook) -> None:
    settings.ALERT_EMAIL_TO, settings.ALERT_EMAIL_SEVERITY = ["ops@books.example"], "warning"
    Webhook.objects.create(name="pager", url=webhook.url, min_severity="critical")
    Webhook.objects.create(name="off", url=webhook.url, active=False)
    findings = [Finding(severity, "fire", Severity(severity), "It burns", "") for severity in Severity]
    apply(findings, now=NOON)
    receivers = {severity.value: set[str]() for severity in Severity}
    for message in Delivery.objects.select_related("alert"):
        receivers[message.alert.severity].add(message.to)
    assert receivers == {
        "info": {"chat"},
        "warning": {"chat", "ops@books.example"},
        "critical": {"chat", "ops@books.example", "pager"},
    }


def test_the_message_says_what_happened_and_when(settings, webhook: Webhook) -> None:
    settings.SERVICE_NAME = "Staging"
    [alert], _ = apply([FIRE], now=NOON)
    message = Delivery.objects.get()
    assert message.payload == {
        "id": str(message.pk),
        "type": "alert.opened",
        "timestamp": "2026-05-05T12:00:00Z",
        "data": {
            "service": "Staging",
            "alert": {
                "id": str(alert.pk),
                "key": "fire",
                "rule": "fire",
                "severity": "critical",
                "title": "It burns",
                "detail": "In the cellar.",
                "opened_at": "2026-05-05T12:00:00Z",
                "recovered_at": None,
            },
        },
    }


def test_old_alerts_and_messages_are_deleted(settings, webhook: Webhook) -> None:
    settings.JOURNAL_KEEP_DAYS = 30
    apply([FIRE], now=NOON)
    apply([], now=NOON + HOLD)
    Delivery.objects.update(state="delivered", ended_at=NOON, next_attempt_at=None)
    apply([FIRE], now=NOON + timedelta(days=1))  # stays open, and its message is not sent
    apply([FIRE], now=NOON + timedelta(days=32))
    assert [(alert.key, alert.recovered_at) for alert in Alert.objects.all()] == [("fire", None)]
    assert [(message.state, message.alert) for message in Delivery.objects.all()] == [("pending", Alert.objects.get())]


def test_an_open_alert_has_the_figures_of_the_newest_check() -> None:
    apply([FIRE], now=NOON)
    for seconds, detail in ((60, "In the attic."), (30, "On the stairs, said a slow check.")):
        apply([replace(FIRE, detail=detail)], now=NOON + timedelta(seconds=seconds))
    alert = Alert.objects.get()
    assert (alert.detail, alert.last_seen_at) == ("In the attic.", NOON + timedelta(seconds=60))


def test_a_dry_run_writes_nothing(webhook: Webhook) -> None:
    apply([FIRE], now=NOON - HOLD)
    use(6_500)
    before = Delivery.objects.count()
    would = services.would_check()
    assert (keys(would.opened), keys(would.recovered)) == ({"usage:2026-05-05:50"}, {"fire"})
    assert keys(list(Alert.objects.filter(recovered_at=None))) == {"fire"}
    assert Delivery.objects.count() == before


def test_migrate_makes_the_schedule_and_the_permissions_of_each_group() -> None:
    ensure_defaults()
    import_module("alexandria.migrations.0001_groups").make_groups(apps, None)
    row = PeriodicTask.objects.get(name="alerts")
    assert (row.task, row.interval.every, row.interval.period) == (
        "alexandria.alerts.tasks.check_alerts",
        30,
        "seconds",
    )
    may = {
        group.name: set(group.permissions.filter(content_type__app_label="alerts").values_list("codename", flat=True))
        for group in Group.objects.all()
    }
    assert may["viewers"] == {"view_alert", "view_delivery"}
    assert may["operators"] - may["viewers"] == {"view_webhook", "test_webhook", "retry_delivery"}
    assert may["managers"] - may["operators"] == {"add_webhook", "change_webhook", "delete_webhook"}

"""What beat schedules for the quota."""

from datetime import timedelta

from django.conf import settings

from alexandria.celery import app
from quota import services, tasks
from quota.models import Consumer, DailyLedger
from quota.selectors import get_status


def test_every_scheduled_task_exists() -> None:
    app.loader.import_default_modules()
    assert {entry["task"] for entry in settings.CELERY_BEAT_SCHEDULE.values()} <= set(app.tasks)


def test_leases_that_ran_out_are_given_back_by_the_scheduled_task(consumer: Consumer) -> None:
    services.reserve(consumer="reader", operation="test", calls=5, lease=timedelta())
    assert tasks.expire_leases() == 1
    assert get_status().reserved == 0


def test_the_days_ledger_is_opened_by_the_scheduled_task_once(consumer: Consumer) -> None:
    assert [tasks.open_ledger(), tasks.open_ledger()] == [True, False]
    assert DailyLedger.objects.count() == 1

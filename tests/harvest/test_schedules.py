"""Two beats or two workers never run the same tick twice."""

import subprocess
import sys
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from celery.schedules import BaseSchedule, crontab, schedule
from celery.signals import task_retry
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask
from django_celery_beat.tzcrontab import TzAwareCrontab

from alexandria.development.sandbox.server import Sandbox
from harvest.models import CronState, HarvestRun
from harvest.runs import run_cron
from harvest.schedules import EARLY, overdue, tick_at
from harvest.tasks import run_cron as task
from tests import processes
from tests.fixtures import NOON, SetClock, balance, database_moved

DAILY = TzAwareCrontab(minute="10", hour="3", tz=UTC)
EVERY_TEN = TzAwareCrontab(minute="*/10", tz=UTC)
FIVE_SECONDS = schedule(timedelta(seconds=5))
MORNING = datetime(2026, 5, 5, 3, 10, tzinfo=UTC)
SECOND, MINUTE, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(days=1)


@pytest.mark.parametrize(
    ("beat", "last", "messages"),
    [
        (DAILY, None, [(MORNING, True), (MORNING + SECOND, False), (MORNING + 20 * timedelta(hours=1), False)]),
        (
            DAILY,
            MORNING - DAY,
            [(MORNING - MINUTE, False), (MORNING + 5 * MINUTE, True), (MORNING + 9 * MINUTE, False)],
        ),
        (DAILY, MORNING - 9 * DAY, [(MORNING, True), (MORNING, False), (MORNING + DAY, True)]),
        (DAILY, MORNING - DAY, [(MORNING - EARLY, True), (MORNING, False), (MORNING + EARLY, False)]),
        (EVERY_TEN, NOON, [(NOON + 9 * MINUTE, False), (NOON + 10 * MINUTE, True), (NOON + 19 * MINUTE, False)]),
        (EVERY_TEN, NOON, [(NOON + 25 * MINUTE, True), (NOON + 26 * MINUTE, False), (NOON + 30 * MINUTE, True)]),
        (FIVE_SECONDS, NOON, [(NOON + 1 * SECOND, False), (NOON + 4.9 * SECOND, True), (NOON + 5.1 * SECOND, False)]),
        (FIVE_SECONDS, NOON, [(NOON + 5.1 * SECOND, True), (NOON + 9.9 * SECOND, True), (NOON + 15 * SECOND, True)]),
        (FIVE_SECONDS, None, [(NOON + (5 * n + 2.5 + (-1) ** n * 0.02) * SECOND, True) for n in range(50)]),
        (FIVE_SECONDS, NOON, [(NOON + 2.5 * n * SECOND, n % 2 == 0) for n in range(1, 50)]),
        (FIVE_SECONDS, None, [(NOON, True), (NOON, False), (NOON + DAY, True)]),
    ],
)
def test_each_tick_runs_once_however_inexact_the_time_of_beat(
    beat: BaseSchedule, last: datetime | None, messages: list[tuple[datetime, bool]]
) -> None:
    for now, counts in messages:
        tick = tick_at(beat, last=last, now=now)
        assert (tick is not None) is counts, f"at {now} after {last}"
        last = tick or last


def test_a_crontab_is_due_by_its_own_time_zone() -> None:
    beat = TzAwareCrontab(minute="0", hour="8", tz=ZoneInfo("Asia/Tokyo"))
    eight_in_tokyo = datetime(2026, 5, 4, 23, tzinfo=UTC)
    last = eight_in_tokyo - DAY
    assert tick_at(beat, last=last, now=eight_in_tokyo - MINUTE) is None
    assert tick_at(beat, last=last, now=eight_in_tokyo) == eight_in_tokyo
    assert isinstance(beat, crontab)


@pytest.mark.usefixtures("defaults")
@pytest.mark.slow
def test_one_of_eight_processes_with_a_message_for_the_same_tick_runs_it(sandbox: Sandbox) -> None:
    def race(claims: str) -> None:
        raced = subprocess.run(
            [sys.executable, "-m", "tests.harvest.racing", "8", "reconciliation", claims],
            env=processes.environment(),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert raced.stdout == "8\n", raced.stderr

    race("without")
    assert sum(1 + run.repeats for run in HarvestRun.objects.all()) == 8, (
        "without the claim every process runs the tick"
    )
    spent = sandbox.spent
    assert spent >= 1

    HarvestRun.objects.all().delete()
    race("with")
    run = HarvestRun.objects.get()
    assert (run.outcome, run.calls, run.repeats) == ("succeeded", 1, 0)
    assert balance(sandbox) == (spent + 1, spent + 1)


def test_an_interval_goes_on_when_the_clock_is_set_back() -> None:
    later = NOON + timedelta(hours=1)
    assert tick_at(schedule(60), last=later, now=NOON) == NOON
    assert tick_at(crontab(minute="0"), last=later, now=NOON) is None, "its moments do not come twice"


@pytest.mark.usefixtures("defaults")
def test_a_tick_runs_once_and_a_run_by_hand_besides(set_clock: SetClock) -> None:
    def runs() -> int:
        return sum(1 + run.repeats for run in HarvestRun.objects.all())

    for _ in range(2):
        task("expire-leases")
    assert runs() == 1
    set_clock(NOON + 2 * MINUTE)
    for _ in range(2):
        task("expire-leases")
    assert runs() == 2
    task("expire-leases", scheduled=False)
    run_cron("expire-leases")
    assert runs() == 4
    assert CronState.objects.filter(name="expire-leases", last_tick_at__gte=NOON + 2 * MINUTE).exists()


@pytest.mark.usefixtures("defaults")
def test_an_edited_schedule_applies_from_the_next_tick_and_without_a_schedule_a_message_runs(
    set_clock: SetClock,
) -> None:
    row = PeriodicTask.objects.get(name="expire-leases")
    assert run_cron("expire-leases", scheduled=True)
    row.interval = IntervalSchedule.objects.create(every=20, period="seconds")
    row.save()
    set_clock(NOON + 40 * SECOND)
    assert run_cron("expire-leases", scheduled=True)
    assert run_cron("expire-leases", scheduled=True) is None
    row.enabled = False
    row.save()
    set_clock(NOON + 80 * SECOND)
    assert run_cron("expire-leases", scheduled=True)
    assert run_cron("expire-leases", scheduled=True) is None, "but not more often than its entry allows"


@pytest.mark.slow
@pytest.mark.usefixtures("defaults")
def test_a_short_outage_of_postgresql_does_not_cost_a_daily_cron_its_day(sandbox: Sandbox) -> None:
    retries = []
    with ExitStack() as outage:

        def comes_back(request: Any, **options: Any) -> None:
            retries.append(request.retries)
            if len(retries) == 2:
                outage.close()

        task_retry.connect(comes_back)
        outage.enter_context(database_moved(1))
        task.apply(args=("reconciliation",))
        task_retry.disconnect(comes_back)
    assert retries == [0, 1]
    assert HarvestRun.objects.get().outcome == "succeeded"
    task.apply(args=("reconciliation",))
    assert HarvestRun.objects.count() == 1, "the tick runs only once"


@pytest.mark.usefixtures("defaults")
def test_a_schedule_can_name_its_cron_by_keyword_and_a_broken_schedule_breaks_no_other() -> None:
    PeriodicTask.objects.filter(name="expire-leases").update(args="[]", kwargs='{"name": "expire-leases"}')
    PeriodicTask.objects.filter(name="open-ledger").update(args="nonsense")
    PeriodicTask.objects.filter(name="queue-flush").update(args="")
    assert run_cron("expire-leases", scheduled=True)
    assert run_cron("expire-leases", scheduled=True) is None


def test_a_daily_cron_is_overdue_from_the_end_of_its_grace_until_its_next_tick(set_clock: SetClock) -> None:
    daily = CrontabSchedule.objects.create(minute="10", hour="3")
    PeriodicTask.objects.create(
        name="feed", task="harvest.tasks.run_cron", args='["update-feed"]', crontab=daily, last_run_at=NOON
    )
    state = CronState.objects.create(name="update-feed", last_tick_at=MORNING - DAY)
    grace = 10 * MINUTE
    assert overdue(now=MORNING + grace, grace=grace) == {}
    assert overdue(now=MORNING + grace + SECOND, grace=grace) == {"update-feed": MORNING}
    assert overdue(now=MORNING + 3 * DAY, grace=grace) == {"update-feed": MORNING}
    state.last_tick_at = MORNING + EARLY
    state.save()
    assert overdue(now=MORNING + DAY, grace=grace) == {}
    PeriodicTask.objects.update(enabled=False)
    assert overdue(now=MORNING + 3 * DAY, grace=grace) == {}

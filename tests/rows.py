"""Rows for every table of the admin: one realistic row each, and as many similar rows as a test needs."""

from collections.abc import Mapping
from typing import Any

from django.contrib.admin.models import ADDITION, LogEntry
from django.contrib.auth.models import Group, User
from django.contrib.contenttypes.models import ContentType
from django.db import connection
from django.db.models import Field, Model
from django.utils import timezone
from django_celery_beat.models import ClockedSchedule, CrontabSchedule, IntervalSchedule, PeriodicTask, SolarSchedule

from alexandria.alerts.models import Alert, Delivery, Webhook
from alexandria.development.sandbox import isbns
from alexandria.logins.models import LogIn
from enrichment.models import (
    Asker,
    Author,
    AuthorMiss,
    Edition,
    EditionAuthor,
    FeedFollowing,
    Job,
    JobAuthor,
    JobItem,
    Miss,
    QueuedIsbn,
    QueuePayer,
    Work,
)
from harvest.models import CronState, HarvestRun
from quota.models import (
    Adjustment,
    Call,
    Consumer,
    ConsumerKey,
    ConsumerUsage,
    DailyLedger,
    PriceMeasurement,
    Reconciliation,
    Refusal,
    Reservation,
    Switches,
)

ISBN = isbns.isbn13_at(7_000, 0)
ONLY_ONE = {Switches}
"""Models that have one row, whatever happens."""

DIFFERENT: Mapping[type[Model], Mapping[str, str]] = {
    Consumer: {"slug": "'consumer-' || n"},
    ConsumerKey: {"id": "'prefix' || n || '.hash'", "prefix": "'p' || n", "name": "'key ' || n"},
    DailyLedger: {"day": "day - n"},
    Reservation: {"id": "gen_random_uuid()", "created_at": "created_at - n * interval '1 second'"},
    Call: {"dispatched_at": "dispatched_at + n * interval '1 second'"},
    Refusal: {"id": "gen_random_uuid()", "within": "within - n * interval '10 seconds'"},
    Adjustment: {},
    Reconciliation: {"call_id": "NULL"},
    PriceMeasurement: {},
    Author: {"name": "name || ' ' || n", "name_key": "name_key || ' ' || n"},
    Work: {"title": "title || ' ' || n", "title_key": "title_key || ' ' || n"},
    Edition: {"isbn13": "(9780000000000 + n)::text", "title": "title || ' ' || n"},
    Miss: {"isbn13": "(9780000000000 + n)::text"},
    AuthorMiss: {"name": "name || ' ' || n"},
    FeedFollowing: {},
    QueuedIsbn: {"isbn13": "(9780000000000 + n)::text"},
    Asker: {"isbn13": "(9780000000000 + n)::text"},
    Job: {"id": "gen_random_uuid()", "created_at": "created_at - n * interval '1 second'"},
    HarvestRun: {"started_at": "started_at - n * interval '1 minute'"},
    CronState: {"name": "name || '-' || n", "run_id": "NULL", "lease_until": "NULL"},
    Alert: {"id": "gen_random_uuid()", "key": "key || n"},
    Webhook: {"name": "name || ' ' || n", "active": "false"},
    Delivery: {"id": "gen_random_uuid()"},
    PeriodicTask: {"name": "name || ' ' || n", "enabled": "false"},
    CrontabSchedule: {},
    IntervalSchedule: {"every": "every + n"},
    SolarSchedule: {"latitude": "n * 0.001"},
    ClockedSchedule: {},
    User: {"username": "username || n"},
    Group: {"name": "name || ' ' || n"},
    LogEntry: {},
    LogIn: {"at": "at - n * interval '1 second'"},
}
"""How the other rows of a table differ from its first: SQL by column, where n counts from 1."""


def one_of_each() -> None:
    """Creates a row, with the rows that it needs, in every table that the admin shows. The tables must be empty."""
    now = timezone.now().replace(microsecond=0)
    day = {"ledger": DailyLedger.objects.create(day=now.date(), **_ledger(now))}
    consumer = Consumer.objects.create(slug="reading-room", daily_budget=5_000, floor=100)
    ConsumerKey.objects.create_key(name="catalogue", consumer=consumer)
    user = User.objects.create_user("librarian", "librarian@example.org", is_staff=True)
    user.groups.add(Group.objects.create(name="cataloguers"))
    LogEntry.objects.create(
        user=user,
        content_type=ContentType.objects.get_for_model(Consumer),
        object_id=str(consumer.pk),
        object_repr="reading-room",
        action_flag=ADDITION,
    )
    LogIn.objects.create(at=now, username=user.username, address="192.0.2.1", succeeded=True)
    Switches.objects.create(pk=1)
    _quota(now, day | {"consumer": consumer}, user)
    _books(now, consumer)
    _harvest(now)
    _schedule(now)
    _alerts(now)


def fill(model: type[Model], count: int) -> None:
    """Adds `count` rows that resemble the first row of the table."""
    name = connection.ops.quote_name
    table = name(model._meta.db_table)
    different = DIFFERENT[model]
    columns = [field.column for field in model._meta.concrete_fields if field.column and _is_ours(field)]
    values = [different.get(column) or name(column) for column in columns]
    number = model._default_manager.count()
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} ({', '.join(map(name, columns))}) SELECT {', '.join(values)} "  # noqa: S608
            f"FROM (SELECT * FROM {table} ORDER BY ctid LIMIT 1) AS first, generate_series(%s, %s) AS n",
            [number, number + count - 1],
        )


def _is_ours(field: "Field[Any, Any]") -> bool:
    """Whether we set the value of a column. The database sets the others."""
    return not field.generated and "AutoField" not in field.get_internal_type()


def _ledger(now: Any) -> dict[str, Any]:
    limits = {"daily_limit": 15_000, "safety_buffer": 2_000, "max_rps": 3}
    return limits | {"used": 12, "reserved": 3, "next_dispatch_at": now, "opened_at": now}


def _quota(now: Any, whose: dict[str, Any], user: User) -> None:
    ConsumerUsage.objects.create(**whose, used=12, reserved=3)
    reservation = Reservation.objects.create(
        **whose,
        operation="batch-direct",
        source="nightly",
        asked=5,
        calls=5,
        dispatched=2,
        created_at=now,
        expires_at=now,
    )
    call = Call.objects.create(
        **whose,
        reservation=reservation,
        operation="batch-direct",
        dispatched_at=now,
        send_at=now,
        method="POST",
        path="/books",
        outcome="ok",
        status=200,
        latency_ms=180,
        isbns_asked=1_000,
        isbns_found=912,
    )
    figures = dict.fromkeys(
        ("daily_limit", "safety_limit", "used", "reserved", "consumer_used", "consumer_reserved"), 1
    )
    Refusal.objects.create(
        **whose,
        operation="bibliography",
        limit="safety_limit",
        asked=10,
        free=3,
        at=now,
        last_at=now,
        within=now,
        figures=figures | {"floor": 0, "daily_budget": None, "cap_per_operation": None, "held_by": {"reading-room": 3}},
    )
    Adjustment.objects.create(**whose, calls=2, reason="Counted by hand.", made_by=user, made_with="the admin")
    PriceMeasurement.objects.create(
        ledger=whose["ledger"],
        measured_at=now,
        how="probe",
        batch_price="isbn",
        key_price=1,
        figures=[{"at": now.isoformat(), "spent": spent, "call": call.pk} for spent in (10, 13, 14)],
    )
    Reconciliation.objects.create(
        ledger=whose["ledger"], call=call, answered_at=now, spent=12, total=15_000, left=14_988, used=12, in_flight=0
    )


def _books(now: Any, consumer: Consumer) -> None:
    times = {"synced_at": now, "created_at": now, "updated_at": now}
    author = Author.objects.create(name="Ursula K. Le Guin", name_key="guin k le ursula")
    work = Work.objects.create(title="The Dispossessed", title_key="dispossessed", author_key=author.name_key)
    edition = Edition.objects.create(
        isbn13=ISBN,
        work=work,
        title="The Dispossessed",
        publisher="Harper & Row",
        raw={"title": "The Dispossessed"},
        content_hash="0" * 32,
        **times,
    )
    EditionAuthor.objects.create(edition=edition, position=1, author=author)
    Miss.objects.create(isbn13=ISBN, asked_at=now)
    AuthorMiss.objects.create(name="Ursula Guin", asked_at=now)
    FeedFollowing.objects.create(began_at=now, reading_since=now, ended_at=now, why_ended="A page was skipped.")
    queued = QueuedIsbn.objects.create(isbn13=ISBN, asked_at=now)
    Asker.objects.create(queued=queued, consumer=consumer, priority=1, asked_at=now, due_at=now)
    QueuePayer.objects.create(consumer=consumer, chosen_at=now)
    job = Job.objects.create(
        consumer=consumer,
        kind="batch-direct",
        wanted={"isbns": 1},
        body_hash="0" * 64,
        state="succeeded",
        created_at=now,
        started_at=now,
        ended_at=now,
        done=1,
        total=1,
        result={"enriched": 1},
    )
    JobItem.objects.create(job=job, position=0, isbn13=ISBN, state="enriched")
    JobAuthor.objects.create(job=job, position=1, name="Ursula K. Le Guin", state="done", pages=1, found=40, new=40)


def _harvest(now: Any) -> None:
    HarvestRun.objects.create(
        cron="new-releases", started_at=now, ended_at=now, outcome="succeeded", calls=4, books=900
    )
    CronState.objects.create(name="new-releases", last_tick_at=now, cursor={"page": 3})


def _schedule(now: Any) -> None:
    crontab = CrontabSchedule.objects.create(minute="17", hour="3")
    IntervalSchedule.objects.create(every=5, period="minutes")
    SolarSchedule.objects.create(event="sunrise", latitude=60, longitude=25)
    ClockedSchedule.objects.create(clocked_time=now)
    PeriodicTask.objects.create(name="nightly check", task="harvest.tasks.run_cron", crontab=crontab, enabled=False)


def _alerts(now: Any) -> None:
    alert = Alert.objects.create(
        key="used:80",
        rule="used",
        severity="warning",
        title="80 % of today's calls are used",
        detail="10,400 of 13,000 calls.",
        opened_at=now,
        last_seen_at=now,
    )
    webhook = Webhook.objects.create(name="chat", url="https://chat.example.org/hooks/alexandria")
    Delivery.objects.create(
        alert=alert,
        event="alert.opened",
        channel="webhook",
        webhook=webhook,
        to="chat",
        payload={"title": alert.title},
        state="delivered",
        attempts=1,
        status=200,
        latency_ms=90,
        created_at=now,
        ended_at=now,
    )

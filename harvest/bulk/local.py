"""A bulk harvest on our own database: fetches through our services, keeps checkpoints in our tables."""

import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from django.db import IntegrityError, InterfaceError, OperationalError, connection, transaction
from django.db.models import Count, F, Q, QuerySet
from django.db.models.functions import Now

from enrichment import selectors
from enrichment.authors.names import AuthorList
from enrichment.exceptions import EnrichmentStopped, IsbndbError
from enrichment.models import Author
from enrichment.services.bibliographies import MAX_PAGES, enrich_bibliography
from enrichment.services.stop_reasons import stop_reason
from harvest.bulk.exceptions import (
    AlreadyBegun,
    AnotherCopy,
    AuthorFailed,
    CannotGoOn,
    NothingToResume,
    QuotaGone,
    TryLater,
)
from harvest.bulk.run import FIGURES, Entry, Page, Quota, Seen, new_entries
from harvest.models import BulkAuthor, BulkHarvest
from quota.exceptions import ConsumerInactive, ConsumerUnknown, QuotaRefused, QuotaUnavailable
from quota.selectors.allowances import why_no_call
from quota.selectors.forecast import forecast
from quota.selectors.status import calls_spent, get_status

CONSUMER = "bulk-author"


class LocalFetcher:
    """Fetches through our own services."""

    source = "bulk"

    def quota(self) -> Quota:
        with _reachable():
            status = get_status()
            why_none = why_no_call(CONSUMER, status)
            free = 0 if why_none else forecast(status.safety_limit, consumer=CONSUMER).today
        return Quota(
            used=status.used,
            reserved=status.reserved,
            safety_limit=status.safety_limit,
            remaining=status.remaining,
            free=free,
            reset_at=status.reset_at,
            why_none=why_none,
        )

    def fetch(self, name: str, *, page: int) -> Page:
        with _reachable():
            try:
                result = enrich_bibliography(name, consumer=CONSUMER, max_pages=1, start_page=page, source=self.source)
            except EnrichmentStopped as stopped:
                raise _failure(stopped) from stopped
        progress = result.progress
        return Page(
            books=progress.books_found,
            enriched=progress.enriched,
            failed=progress.failed,
            calls=progress.api_calls,
            complete=result.complete,
            next_page=result.next_page,
            stopped_reason=result.stopped_reason,
            free=_free_calls(),
        )

    def names_by_editions(self, first: int, last: int) -> list[str]:
        ranked = Author.objects.annotate(stored=Count("edition_links")).order_by("-stored", "name_key")
        with _reachable():
            return list(ranked.values_list("name", flat=True)[first - 1 : last])

    def remembered(self, names: list[str]) -> int:
        with _reachable():
            return selectors.remembered_author_misses().filter(pk__in=names).count()

    def days(self, calls: int) -> int | None:
        with _reachable():
            plan = forecast(calls, consumer=CONSUMER)
        return None if plan.finish_at is None else plan.days

    def close(self) -> None:
        """Nothing to do: Django manages the connections."""


class DatabaseCheckpoint:
    """The rows of a harvest, held by this process until `close`."""

    def __init__(self, harvest: BulkHarvest, entries: list[Entry]) -> None:
        self.harvest = harvest
        self.holder = harvest.holder
        self.label = f"{harvest.label} ({harvest})"
        self.source = harvest.source
        self.max_pages = harvest.max_pages
        self.entries = entries

    def save(self, entry: Entry) -> None:
        figures = {name: getattr(entry, name) for name in FIGURES}
        with _reachable(), transaction.atomic():
            self._hold()
            self.harvest.authors.filter(position=entry.position).update(**figures, updated_at=Now())

    def calls(self) -> int:
        try:
            return calls_spent(source=self.source)
        except QuotaUnavailable:  # only what this process knows
            return sum(entry.calls for entry in self.entries)

    def renew(self) -> None:
        with _reachable():
            self._hold()

    def close(self, *, reason: str) -> None:
        state = BulkHarvest.State.STOPPED if reason else BulkHarvest.State.FINISHED
        with _reachable():
            self._held().update(state=state, reason=reason, ended_at=Now(), holder=None, lease_until=None)

    def _held(self) -> QuerySet[BulkHarvest]:
        return BulkHarvest.objects.filter(pk=self.harvest.pk, state="running", holder=self.holder)

    def _hold(self) -> None:
        if not self._held().update(lease_until=Now() + BulkHarvest.LEASE):
            raise AnotherCopy(
                "This process lost the harvest to another one, because it did not renew its lease in time."
            )


class DatabaseStore:
    """The harvests in our tables. `resume` without a list continues the harvest that stopped last."""

    def look(self, wanted: AuthorList | None, *, resume: bool) -> Seen:
        _stop_silent_harvests()
        harvest = _to_resume(wanted) if resume else None
        if harvest is not None:
            return f"{harvest.label} ({harvest})", _entries_of(harvest), harvest.max_pages
        if wanted is None:
            raise NothingToResume("There is no stopped harvest in the database.")
        return wanted.label, new_entries(wanted.names()), MAX_PAGES

    def open(
        self, wanted: AuthorList | None, *, max_pages: int | None, resume: bool, restart: bool
    ) -> DatabaseCheckpoint:
        _stop_silent_harvests()
        earlier = _to_resume(wanted) if resume else _unfinished(wanted)
        with _reachable():
            if earlier is not None and resume:
                return _take_over(earlier, max_pages)
            if wanted is None:
                raise NothingToResume("There is no stopped harvest in the database.")
            if earlier is not None:
                _make_way(earlier, restart=restart)
            return _begin(wanted, max_pages or MAX_PAGES)


def _stop_silent_harvests() -> None:
    """Marks harvests as stopped when their process has ended or their lease is over."""
    with _reachable():
        for harvest in BulkHarvest.objects.filter(state="running"):
            over = Q(lease_until__lt=Now())
            if _is_dead(harvest):
                over |= Q(holder=harvest.holder)
            heard = harvest.heard_at
            BulkHarvest.objects.filter(over, pk=harvest.pk, state="running").update(
                state="stopped",
                reason=f"No update since {heard:%Y-%m-%d %H:%M} UTC.",
                ended_at=heard,
                holder=None,
                lease_until=None,
            )


def _to_resume(wanted: AuthorList | None) -> BulkHarvest | None:
    """With a list: its latest harvest, even a finished one. Without: the one that stopped last, or one that runs."""
    with _reachable():
        if wanted is not None:
            return BulkHarvest.objects.filter(key=wanted.key).exclude(state="abandoned").first()
        unfinished = BulkHarvest.objects.filter(state__in=["running", "stopped"])
        return unfinished.order_by(F("ended_at").desc(nulls_last=True)).first()


def _unfinished(wanted: AuthorList | None) -> BulkHarvest | None:
    if wanted is None:
        return None
    with _reachable():
        return BulkHarvest.objects.filter(key=wanted.key, state__in=["running", "stopped"]).first()


def _entries_of(harvest: BulkHarvest) -> list[Entry]:
    with _reachable():
        return [Entry(**row) for row in harvest.authors.order_by("position").values("position", "name", *FIGURES)]


def _begin(wanted: AuthorList, max_pages: int) -> DatabaseCheckpoint:
    entries = new_entries(wanted.names())
    try:
        with transaction.atomic():
            harvest = BulkHarvest.objects.create(
                key=wanted.key, label=wanted.label[:200], max_pages=max_pages, state="running", **_holder()
            )
            BulkAuthor.objects.bulk_create(
                [BulkAuthor(harvest=harvest, position=entry.position, name=entry.name) for entry in entries], 1000
            )
    except IntegrityError as error:
        raise AnotherCopy("Another process has just started to harvest this list.") from error
    return DatabaseCheckpoint(harvest, entries)


def _take_over(harvest: BulkHarvest, max_pages: int | None) -> DatabaseCheckpoint:
    holder = _holder()
    changes = holder | {"state": "running", "ended_at": None, "reason": ""}
    if max_pages is not None:
        changes["max_pages"] = max_pages
    if not _free(harvest).update(**changes):
        raise AnotherCopy(_who(harvest))
    harvest.refresh_from_db()
    checkpoint = DatabaseCheckpoint(harvest, _entries_of(harvest))
    for entry in checkpoint.entries:
        if entry.reopen(harvest.max_pages):
            checkpoint.save(entry)
    return checkpoint


def _make_way(harvest: BulkHarvest, *, restart: bool) -> None:
    if not _free(harvest).exists():
        raise AnotherCopy(_who(harvest))
    if not restart:
        raise AlreadyBegun(f"{harvest.label} was started before as {harvest}, which has stopped.")
    changes = {"state": "abandoned", "ended_at": Now(), "holder": None, "lease_until": None}
    if not _free(harvest).update(**changes):
        raise AnotherCopy(_who(harvest))


def _free(harvest: BulkHarvest) -> QuerySet[BulkHarvest]:
    """The harvest, unless a process holds it."""
    return BulkHarvest.objects.filter(pk=harvest.pk).exclude(state="running")


def _is_dead(harvest: BulkHarvest) -> bool:
    """Whether the process of the harvest ran on this machine and has ended."""
    if harvest.host != _machine() or harvest.pid is None:
        return False
    try:
        os.kill(harvest.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False


@cache
def _machine() -> str:
    """The name of this machine, and of the boot and container in which its process ids are valid."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
        numbers = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:  # not Linux: no process id can be trusted
        boot, numbers = uuid.uuid4().hex[:8], 0
    return f"{socket.gethostname()} ({boot}-{numbers})"


def _holder() -> dict[str, Any]:
    return {
        "holder": uuid.uuid4(),
        "host": _machine(),
        "pid": os.getpid(),
        "lease_until": Now() + BulkHarvest.LEASE,
    }


def _who(harvest: BulkHarvest) -> str:
    with _reachable():
        harvest.refresh_from_db()
    since, until = harvest.started_at, harvest.lease_until or harvest.ended_at
    return (
        f"Process {harvest.pid} on {harvest.host} works on {harvest.label} ({harvest}, started "
        f"{since:%Y-%m-%d %H:%M} UTC). Its lease ends at {until:%H:%M} UTC unless the process renews it."
    )


def _free_calls() -> int | None:
    """The remaining calls, if known: the fetched page counts even if they are not."""
    try:
        return get_status().remaining
    except QuotaUnavailable:
        return None


def _failure(stopped: EnrichmentStopped) -> Exception:
    """What an interrupted page means for the harvest."""
    error, calls = stopped.reason, stopped.result.progress.api_calls
    match error:
        case QuotaRefused():
            seconds = None if error.retry_at is None else (error.retry_at - get_status().now).total_seconds()
            return QuotaGone(error.limit, str(error), retry_at=error.retry_at, seconds=seconds, calls=calls)
        case ConsumerInactive() | ConsumerUnknown():
            return CannotGoOn(str(error))
        case IsbndbError():
            return AuthorFailed(stop_reason(error), str(error), calls=calls)
    return TryLater(str(error), calls=calls)


@contextmanager
def _reachable() -> Iterator[None]:
    """Turns an unreachable database into TryLater, and a missing consumer into CannotGoOn."""
    try:
        yield
    except QuotaUnavailable as error:
        raise TryLater(str(error)) from error
    except (OperationalError, InterfaceError) as error:
        connection.close()
        raise TryLater("The database does not answer.") from error
    except ConsumerUnknown as error:
        raise CannotGoOn(f"{error} `manage.py migrate` creates it.") from error

"""The queue: which ISBNs wait and which failed. Operators can retry or drop them."""

from datetime import datetime
from typing import Any, cast

from django.contrib import admin, messages
from django.contrib.admin.filters import ChoicesFieldListFilter, RelatedFieldListFilter
from django.contrib.admin.models import CHANGE, DELETION, LogEntry
from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from unfold.admin import TabularInline
from unfold.decorators import display

from alexandria.common.reasons import action_fields, confirm_page, reason_form
from alexandria.common.text import counted
from enrichment.admin.books import IsbnSearch
from enrichment.models import Asker, QueuedIsbn
from enrichment.selectors.queue import FAILED, UNDER_WAY, WAITING, get_queue
from enrichment.services.queue import drop, retry
from quota.exceptions import QuotaUnavailable

MAX_SHOWN = 20
"""ISBNs that the page lists before they are dropped."""


class StateFilter(admin.SimpleListFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("waiting", "waiting"), ("under_way", "in progress"), ("failed", "failed")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[QueuedIsbn]) -> QuerySet[QueuedIsbn]:
        states = {"waiting": WAITING, "under_way": UNDER_WAY, "failed": FAILED}
        state = states.get(self.value() or "")
        return queryset if state is None else queryset.filter(state)


class AskerInline(TabularInline):
    model = Asker
    fields = ("consumer", "priority", "source", "asked_at", "due_at")
    verbose_name_plural = "asked for by"
    extra = 0
    can_delete = False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Asker]:
        return super().get_queryset(request).select_related("consumer")

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.has_perm("enrichment.view_queuedisbn"))


@admin.register(QueuedIsbn)
class QueuedIsbnAdmin(IsbnSearch):
    list_display = (
        "isbn13",
        "priority_label",
        "asked_by",
        "source",
        "asked_at",
        "due_at",
        "held_until",
        "attempts",
        "error",
    )
    list_filter = [
        StateFilter,
        ("askers__priority", ChoicesFieldListFilter),
        ("askers__consumer", RelatedFieldListFilter),
    ]
    inlines = [AskerInline]
    list_before_template = "enrichment/admin/queue.html"
    search_fields = ["isbn13"]
    search_help_text = "Search by an ISBN, in any form."
    date_hierarchy = "asked_at"
    actions = ["retry_failed", "drop_queued"]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        try:
            queue = get_queue()
        except QuotaUnavailable:  # the list itself does not need the figures
            queue = None
        why = (queue.next_flush_why or "").replace("_", " ") if queue else ""
        return super().changelist_view(request, {**(extra_context or {}), "queue": queue, "next_flush_why": why})

    def get_queryset(self, request: HttpRequest) -> QuerySet[QueuedIsbn]:
        return super().get_queryset(request).prefetch_related("askers__consumer")

    @display(description="priority", label={"high": "danger", "normal": "info", "low": ""})
    def priority_label(self, queued: QueuedIsbn) -> str | None:
        """The highest of all who asked. None: the ISBN has left the queue in this moment."""
        highest = max(queued.askers.all(), key=lambda asker: asker.priority, default=None)
        return highest.get_priority_display() if highest else None

    @admin.display(description="asked for by")
    def asked_by(self, queued: QueuedIsbn) -> str:
        return ", ".join(asker.consumer.slug for asker in queued.askers.all())

    @admin.display(description="source")
    def source(self, queued: QueuedIsbn) -> str:
        return ", ".join(asker.source for asker in queued.askers.all() if asker.source)

    @admin.display(description="due at")
    def due_at(self, queued: QueuedIsbn) -> datetime | None:
        """The earliest of all who asked."""
        return min((asker.due_at for asker in queued.askers.all()), default=None)

    @admin.display(description="last error")
    def error(self, queued: QueuedIsbn) -> str:
        return queued.last_error[:80]

    @admin.action(description="Retry failed ISBNs", permissions=["retry"])
    def retry_failed(self, request: HttpRequest, queryset: QuerySet[QueuedIsbn]) -> None:
        failed = list(queryset.filter(FAILED))
        count = retry([queued.isbn13 for queued in failed])
        _log(request, failed, CHANGE, "Queued again.")
        messages.success(request, f"Queued again for the next batch: {counted(count, 'ISBN')}.")

    @admin.action(description="Drop…", permissions=["drop"])
    def drop_queued(self, request: HttpRequest, queryset: QuerySet[QueuedIsbn]) -> HttpResponse | None:
        """Asks for a reason first: the clients that queued the ISBNs are not informed."""
        form = reason_form(request)
        if form.is_valid():
            dropped = list(queryset)
            count = drop([queued.isbn13 for queued in dropped])
            _log(request, dropped, DELETION, f"Dropped. Reason: {form.cleaned_data['reason']}")
            messages.success(request, f"Dropped {counted(count, 'ISBN')} from the queue.")
            return None
        isbns = list(queryset.values_list("isbn13", flat=True)[:MAX_SHOWN])
        return confirm_page(
            request,
            form,
            title="Drop ISBNs from the queue",
            question=f"Drop {counted(queryset.count(), 'ISBN')} from the queue?",
            lines=["The clients that queued them are not informed."],
            columns=["ISBN"],
            rows=[[isbn] for isbn in isbns],
            button="Drop",
            variant="danger",
            back=request.get_full_path(),
            hidden=action_fields(request),
        )

    def has_retry_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("enrichment.change_queuedisbn"))

    def has_drop_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("enrichment.delete_queuedisbn"))


def _log(request: HttpRequest, queued: list[QueuedIsbn], flag: int, message: str) -> None:
    LogEntry.objects.log_actions(cast(User, request.user).pk, queued, flag, change_message=message)

"""Calls that are set aside, and those that were."""

from typing import Any

from django.contrib import admin, messages
from django.db.models import DurationField, ExpressionWrapper, F, QuerySet
from django.http import HttpRequest, HttpResponse
from unfold.contrib.filters.admin import ChoicesDropdownFilter, RelatedDropdownFilter
from unfold.paginator import InfinitePaginator

from alexandria.common.admin import ReadOnlyAdmin
from alexandria.common.reasons import ask_why, posted_again, reason_of
from quota.database import QuotaNow
from quota.exceptions import QuotaUnavailable
from quota.models import Reservation
from quota.models.ledger import IS_OPEN
from quota.services import reservations


@admin.register(Reservation)
class ReservationAdmin(ReadOnlyAdmin):
    """Open ones first, then the newest. What is stuck can be released."""

    list_display = (
        *("created_at", "consumer", "operation", "source", "state", "age", "lease_left"),
        *("calls", "dispatched", "still_set_aside"),
    )
    list_filter = (("state", ChoicesDropdownFilter), ("consumer", RelatedDropdownFilter))
    list_filter_submit = True
    list_select_related = ("consumer",)
    list_disable_select_all = True
    ordering = (IS_OPEN.desc(), F("created_at").desc())
    paginator = InfinitePaginator
    sortable_by = ()
    search_fields = ("id__exact",)
    search_help_text = "The id of a reservation."
    actions = ("release",)
    fields = (
        *("id", "ledger", "consumer", "operation", "source", "state", "age", "lease_left", "asked", "calls"),
        *("dispatched", "still_set_aside", "created_at", "expires_at", "closed_at"),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Reservation]:
        """By the quota's clock: how long ago it was made, and how long the lease still runs."""
        clock = {
            "made_ago": ExpressionWrapper(QuotaNow() - F("created_at"), output_field=DurationField()),
            "ends_in": ExpressionWrapper(F("expires_at") - QuotaNow(), output_field=DurationField()),
        }
        return super().get_queryset(request).annotate(**clock)

    @admin.display
    def age(self, reservation: Any) -> str:
        return _in_words(reservation.made_ago.total_seconds())

    @admin.display(description="lease left")
    def lease_left(self, reservation: Any) -> str:
        if reservation.state != Reservation.State.OPEN:
            return "-"
        left = reservation.ends_in.total_seconds()
        return _in_words(left) if left > 0 else "ran out"

    @admin.display(description="still set aside")
    def still_set_aside(self, reservation: Reservation) -> int:
        return reservation.calls - reservation.dispatched if reservation.state == Reservation.State.OPEN else 0

    def has_release_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("quota.release_reservation"))

    @admin.action(description="Release what was not dispatched", permissions=["release"])
    def release(self, request: HttpRequest, queryset: QuerySet[Reservation]) -> HttpResponse | None:
        """Asks for the reason, and then gives back what the chosen reservations still hold."""
        chosen = list(queryset.filter(state=Reservation.State.OPEN).select_related("consumer"))
        if not chosen:
            messages.warning(request, "None of these is open: there is nothing to release.")
            return None
        form = reason_of(request)
        if not form.is_valid():
            return self._ask(request, form, chosen)
        back, closed = 0, 0
        for reservation in chosen:
            try:
                calls = reservations.settle(reservation.pk)
            except QuotaUnavailable as error:
                messages.error(request, f"Not all of them are released. {error}")
                break
            back, closed = back + calls, closed + 1
            self.log_change(request, reservation, f"Released {_calls(calls)}. Reason: {form.cleaned_data['reason']}")
        noun = "reservation" if closed == 1 else "reservations"
        messages.success(request, f"{_calls(back)} went back from {closed} {noun}.")
        return None

    def _ask(self, request: HttpRequest, form: Any, chosen: list[Reservation]) -> HttpResponse:
        held = sum(self.still_set_aside(reservation) for reservation in chosen)
        return ask_why(
            request,
            form,
            title="Release what was not dispatched",
            question=f"Give back {_calls(held)}?",
            told=[
                "What was dispatched stays spent.",
                "An operation that still runs can make no further call from it, and ends with what it has.",
            ],
            columns=["Consumer", "Operation", "For", "Age", "Lease left", "Dispatched", "Goes back"],
            rows=[
                (
                    *(reservation.consumer, reservation.operation, reservation.source, self.age(reservation)),
                    *(self.lease_left(reservation), reservation.dispatched, self.still_set_aside(reservation)),
                )
                for reservation in chosen
            ],
            button="Release",
            variant="danger",
            back=request.get_full_path(),
            hidden=posted_again(request),
        )


def _calls(number: int) -> str:
    return f"{number:,} {'call' if number == 1 else 'calls'}"


def _in_words(seconds: float) -> str:
    """As long as people would say it: "40 s", "3 min", "5 h", "2 days"."""
    for size, unit in ((86_400, "days"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size or (unit == "min" and seconds >= size):
            return f"{int(seconds // size)} {unit}"
    return f"{max(0, int(seconds))} s"

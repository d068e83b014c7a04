"""Reservations, open and closed. What an open one still holds can be released."""

from datetime import timedelta
from typing import Any

from django.contrib import admin, messages
from django.db.models import DurationField, ExpressionWrapper, F, QuerySet
from django.http import HttpRequest, HttpResponse
from unfold.contrib.filters.admin import ChoicesDropdownFilter, RelatedDropdownFilter

from alexandria.common.admin import LongListAdmin
from alexandria.common.reasons import action_fields, confirm_page, reason_form
from alexandria.common.text import counted, length_of_time
from quota.database import QuotaNow
from quota.exceptions import QuotaUnavailable
from quota.models import Reservation
from quota.models.ledger import IS_OPEN
from quota.services import reservations


@admin.register(Reservation)
class ReservationAdmin(LongListAdmin):
    """Open reservations first, then the newest. A stuck one can be released."""

    list_display = (
        "created_at",
        "consumer",
        "operation",
        "source",
        "state",
        "age",
        "lease_left",
        "calls",
        "dispatched",
        "still_reserved",
    )
    list_filter = (("state", ChoicesDropdownFilter), ("consumer", RelatedDropdownFilter))
    list_select_related = ("consumer",)
    ordering = (IS_OPEN.desc(), F("created_at").desc())
    search_fields = ("id__exact",)
    search_help_text = "Search by the id of a reservation."
    actions = ("release",)
    fields = (
        "id",
        "ledger",
        "consumer",
        "operation",
        "source",
        "state",
        "age",
        "lease_left",
        "asked",
        "calls",
        "dispatched",
        "still_reserved",
        "created_at",
        "expires_at",
        "closed_at",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Reservation]:
        """Adds, by the quota's clock, the age and the time until the lease ends."""
        clock = {
            "made_ago": ExpressionWrapper(QuotaNow() - F("created_at"), output_field=DurationField()),
            "ends_in": ExpressionWrapper(F("expires_at") - QuotaNow(), output_field=DurationField()),
        }
        return super().get_queryset(request).annotate(**clock)

    @admin.display
    def age(self, reservation: Any) -> str:
        return length_of_time(reservation.made_ago)

    @admin.display(description="lease left")
    def lease_left(self, reservation: Any) -> str:
        if reservation.state != Reservation.State.OPEN:
            return "-"
        return length_of_time(reservation.ends_in) if reservation.ends_in > timedelta(0) else "ended"

    @admin.display(description="still reserved")
    def still_reserved(self, reservation: Reservation) -> int:
        return reservation.calls - reservation.dispatched if reservation.state == Reservation.State.OPEN else 0

    def has_release_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("quota.release_reservation"))

    @admin.action(description="Release calls that were not dispatched", permissions=["release"])
    def release(self, request: HttpRequest, queryset: QuerySet[Reservation]) -> HttpResponse | None:
        """Asks for a reason, then returns what the chosen reservations still hold."""
        chosen = list(queryset.filter(state=Reservation.State.OPEN).select_related("consumer"))
        if not chosen:
            messages.warning(request, "None of these reservations is open, so there is nothing to release.")
            return None
        form = reason_form(request)
        if not form.is_valid():
            return self._ask(request, form, chosen)
        back, closed = 0, 0
        for reservation in chosen:
            try:
                calls = reservations.settle(reservation.pk)
            except QuotaUnavailable as error:
                messages.error(request, f"Not all reservations were released. {error}")
                break
            back, closed = back + calls, closed + 1
            self.log_change(
                request, reservation, f"Released {counted(calls, 'call')}. Reason: {form.cleaned_data['reason']}"
            )
        messages.success(request, f"Released {counted(back, 'call')} of {counted(closed, 'reservation')}.")
        return None

    def _ask(self, request: HttpRequest, form: Any, chosen: list[Reservation]) -> HttpResponse:
        held = sum(self.still_reserved(reservation) for reservation in chosen)
        return confirm_page(
            request,
            form,
            title="Release calls that were not dispatched",
            question=f"Release {counted(held, 'call')}?",
            lines=[
                "Calls of dispatched requests stay used.",
                "An operation that is still running cannot send another request. It ends with what it has.",
            ],
            columns=["Consumer", "Operation", "For", "Age", "Lease left", "Dispatched", "To release"],
            rows=[
                (
                    reservation.consumer,
                    reservation.operation,
                    reservation.source,
                    self.age(reservation),
                    self.lease_left(reservation),
                    reservation.dispatched,
                    self.still_reserved(reservation),
                )
                for reservation in chosen
            ],
            button="Release",
            variant="danger",
            back=request.get_full_path(),
            hidden=action_fields(request),
        )

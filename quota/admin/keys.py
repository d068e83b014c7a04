"""The pages that create, rotate and revoke the API keys of a consumer."""

import uuid
from datetime import UTC, date, datetime, timedelta
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import messages
from django.core.cache import cache
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django_redis.exceptions import ConnectionInterrupted
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from alexandria.common.admin import secret_page
from alexandria.common.reasons import ReasonField, confirm_page, reason_form
from quota.exceptions import KeyNotUsable
from quota.models import Consumer, ConsumerKey
from quota.selectors.status import begin_of
from quota.services.keys import create_key, revoke_key, rotate_key

GRACES = {"": "immediately", "1": "in 1 hour", "24": "in 1 day", "168": "in 7 days"}

REMEMBERED = timedelta(days=1)


class OnceForm(forms.Form):
    """A form that works once. Otherwise, reloading the page of a new key would create another key."""

    once = forms.UUIDField(required=False, initial=uuid.uuid4, widget=forms.HiddenInput())

    def is_first(self) -> bool:
        """Whether the form is sent for the first time. Without Redis this is always assumed."""
        once: uuid.UUID | None = self.cleaned_data["once"]
        try:
            return once is None or bool(cache.add(f"sent:{once}", 1, REMEMBERED.total_seconds()))
        except ConnectionInterrupted:
            return True


class NewKeyForm(OnceForm):
    name = forms.CharField(
        max_length=50, widget=UnfoldAdminTextInputWidget(), help_text="Who owns the key, or where it is used."
    )
    daily_budget = forms.IntegerField(
        label="Daily budget of the consumer",
        required=False,
        min_value=0,
        max_value=10_000_000,
        widget=UnfoldAdminIntegerFieldWidget(),
        help_text="Maximum number of calls in a UTC day, for all keys of the consumer together. Empty: no budget.",
    )
    sees_all = forms.BooleanField(
        label="Sees all",
        required=False,
        widget=UnfoldBooleanSwitchWidget(),
        help_text="For managers: the API shows this key the use of all consumers.",
    )
    last_day = forms.DateField(
        label="Last day",
        required=False,
        widget=UnfoldAdminTextInputWidget(attrs={"type": "date"}),
        help_text="The last day (UTC) on which the key is valid. If empty, it is valid until it is revoked.",
    )
    reason = ReasonField()

    def clean_last_day(self) -> date | None:
        day: date | None = self.cleaned_data["last_day"]
        if day and day < datetime.now(UTC).date():
            raise forms.ValidationError("This day is in the past.")
        return day

    @property
    def expires_at(self) -> datetime | None:
        day: date | None = self.cleaned_data["last_day"]
        return begin_of(day + timedelta(days=1)) if day else None


class RotateForm(OnceForm):
    ends = forms.ChoiceField(
        label="The old key expires",
        required=False,
        choices=list(GRACES.items()),
        widget=UnfoldAdminSelectWidget(),
        help_text="Until then both keys are valid, which gives its users time to change to the new key.",
    )
    reason = ReasonField()

    @property
    def grace(self) -> timedelta:
        return timedelta(hours=int(self.cleaned_data["ends"] or 0))


def new_key(request: HttpRequest, model_admin: Any, pk: int) -> HttpResponse:
    consumer = _consumer(request, pk, "quota.add_consumerkey")
    budget = settings.CONSUMER_DAILY_BUDGET if consumer.daily_budget is None else consumer.daily_budget
    form = NewKeyForm(request.POST or None, initial={"daily_budget": budget})
    form.fields["daily_budget"].disabled = not request.user.has_perm("quota.change_consumer")
    if not form.is_valid():
        return confirm_page(
            request,
            form,
            title=f"New key for {consumer}",
            question=f"Create a key for {consumer}?",
            lines=["The next page shows the key. No page can show it again."],
            button="Create key",
            back=_page(consumer),
        )
    if not form.is_first():
        return _already_sent(request, consumer)
    reason = form.cleaned_data["reason"]
    with transaction.atomic():
        if form.cleaned_data["daily_budget"] != consumer.daily_budget and not form.fields["daily_budget"].disabled:
            consumer.daily_budget = form.cleaned_data["daily_budget"]
            consumer._change_reason = reason[:100]  # type: ignore[attr-defined]  # noqa: SLF001
            consumer.save(update_fields=["daily_budget"])
        row, key = create_key(
            consumer=consumer,
            name=form.cleaned_data["name"],
            sees_all=form.cleaned_data["sees_all"],
            expires_at=form.expires_at,
        )
        model_admin.log_change(request, consumer, f"Created {_named(row)}. Reason: {reason}")
    return _key_page(request, consumer, row, key)


def rotate(request: HttpRequest, model_admin: Any, pk: int, prefix: str) -> HttpResponse:
    consumer = _consumer(request, pk, "quota.add_consumerkey", "quota.change_consumerkey")
    old = _key(consumer, prefix)
    form = RotateForm(request.POST or None)
    if not form.is_valid():
        return confirm_page(
            request,
            form,
            title=f"Rotate a key of {consumer}",
            question=f"Replace {_named(old)} with a new key?",
            lines=["The next page shows the new key. No page can show it again."],
            button="Rotate",
            back=_page(consumer),
        )
    if not form.is_first():
        return _already_sent(request, consumer)
    ends = GRACES[form.cleaned_data["ends"]]
    try:
        with transaction.atomic():
            row, key = rotate_key(prefix, grace=form.grace)
            model_admin.log_change(
                request,
                consumer,
                f"Replaced {_named(old)} with {row.prefix}…. The old key expires {ends}. "
                f"Reason: {form.cleaned_data['reason']}",
            )
    except KeyNotUsable as error:
        messages.error(request, str(error))
        return redirect(_page(consumer))
    return _key_page(request, consumer, row, key, f"The old key {prefix}… expires {ends}.")


def revoke(request: HttpRequest, model_admin: Any, pk: int, prefix: str) -> HttpResponse:
    consumer = _consumer(request, pk, "quota.change_consumerkey")
    row = _key(consumer, prefix)
    form = reason_form(request)
    if not form.is_valid():
        return confirm_page(
            request,
            form,
            title=f"Revoke a key of {consumer}",
            question=f"Revoke {_named(row)}?",
            lines=["From then on every request with this key is refused. This cannot be undone."],
            button="Revoke",
            variant="danger",
            back=_page(consumer),
        )
    try:
        with transaction.atomic():
            revoke_key(prefix)
            model_admin.log_change(request, consumer, f"Revoked {_named(row)}. Reason: {form.cleaned_data['reason']}")
    except KeyNotUsable as error:
        messages.error(request, str(error))
    else:
        messages.success(request, f"Revoked {_named(row)}.")
    return redirect(_page(consumer))


def _already_sent(request: HttpRequest, consumer: Consumer) -> HttpResponse:
    messages.warning(request, "This form was already sent, and its key was shown then. If the key is lost, rotate it.")
    return redirect(_page(consumer))


def _key_page(request: HttpRequest, consumer: Consumer, row: ConsumerKey, key: str, *lines: str) -> HttpResponse:
    return secret_page(
        request,
        title=f"New key for {consumer}",
        heading=f"The key “{row.name}” was created",
        label="Key",
        secret=key,
        lines=["Alexandria stores only its hash.", *lines, "Send it in a header: Authorization: Api-Key …"],
        back=_page(consumer),
    )


def _consumer(request: HttpRequest, pk: int, *permissions: str) -> Consumer:
    if not request.user.has_perms(["quota.view_consumer", *permissions]):
        raise PermissionDenied
    return get_object_or_404(Consumer, pk=pk)


def _key(consumer: Consumer, prefix: str) -> ConsumerKey:
    row = consumer.keys.filter(prefix=prefix).first()
    if row is None:
        raise Http404
    return row


def _page(consumer: Consumer) -> str:
    return reverse("admin:quota_consumer_change", args=[consumer.pk])


def _named(row: ConsumerKey) -> str:
    return f"the key “{row.name}” ({row.prefix}…)"

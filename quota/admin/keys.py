"""The pages on which a consumer's keys are made, replaced and revoked."""

import uuid
from datetime import UTC, date, datetime, timedelta
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.cache import cache
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.cache import add_never_cache_headers
from django_redis.exceptions import ConnectionInterrupted
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget, UnfoldBooleanSwitchWidget

from alexandria.common.reasons import ReasonField, ReasonForm, ask_why
from quota.exceptions import KeyNotUsable
from quota.models import Consumer, ConsumerKey
from quota.selectors.status import begin_of
from quota.services.keys import create_key, revoke_key, rotate_key

GRACES = {"": "at once", "1": "1 hour from now", "24": "1 day from now", "168": "7 days from now"}

REMEMBERED = timedelta(days=1)


class OnceForm(forms.Form):
    """A form that works once: a key that comes of a page loaded again is one that nobody asked for."""

    once = forms.UUIDField(required=False, initial=uuid.uuid4, widget=forms.HiddenInput())

    def is_first(self) -> bool:
        """Whether this is the first time that it is sent; without Redis every time is."""
        once: uuid.UUID | None = self.cleaned_data["once"]
        try:
            return once is None or bool(cache.add(f"sent:{once}", 1, REMEMBERED.total_seconds()))
        except ConnectionInterrupted:
            return True


class NewKeyForm(OnceForm):
    name = forms.CharField(
        max_length=50, widget=UnfoldAdminTextInputWidget(), help_text="For people: whose it is, or where it is used."
    )
    sees_all = forms.BooleanField(
        label="Sees all",
        required=False,
        widget=UnfoldBooleanSwitchWidget(),
        help_text="A manager's key: it is told the calls of all consumers.",
    )
    last_day = forms.DateField(
        label="Last day",
        required=False,
        widget=UnfoldAdminTextInputWidget(attrs={"type": "date"}),
        help_text="The last day, UTC, on which it works. Empty: it works until it is revoked.",
    )
    reason = ReasonField()

    def clean_last_day(self) -> date | None:
        day: date | None = self.cleaned_data["last_day"]
        if day and day < datetime.now(UTC).date():
            raise forms.ValidationError("That day is over.")
        return day

    @property
    def expires_at(self) -> datetime | None:
        day: date | None = self.cleaned_data["last_day"]
        return begin_of(day + timedelta(days=1)) if day else None


class RotateForm(OnceForm):
    ends = forms.ChoiceField(
        label="The old key ends",
        required=False,
        choices=list(GRACES.items()),
        widget=UnfoldAdminSelectWidget(),
        help_text="Until then both keys work, so that its users have the time to take the new one.",
    )
    reason = ReasonField()

    @property
    def grace(self) -> timedelta:
        return timedelta(hours=int(self.cleaned_data["ends"] or 0))


def new_key(request: HttpRequest, model_admin: Any, pk: int) -> HttpResponse:
    consumer = _consumer(request, pk, "quota.add_consumerkey")
    form = NewKeyForm(request.POST or None)
    if not form.is_valid():
        return ask_why(
            request,
            form,
            title=f"New key for {consumer}",
            question=f"Make a key of {consumer}?",
            told=["It is shown once, on the next page, and cannot be had again."],
            button="Make the key",
            back=_page(consumer),
        )
    if not form.is_first():
        return _sent_before(request, consumer)
    with transaction.atomic():
        row, key = create_key(
            consumer=consumer,
            name=form.cleaned_data["name"],
            sees_all=form.cleaned_data["sees_all"],
            expires_at=form.expires_at,
        )
        model_admin.log_change(request, consumer, f"Made {_called(row)}. Reason: {form.cleaned_data['reason']}")
    return _shown(request, consumer, row, key, said="")


def rotate(request: HttpRequest, model_admin: Any, pk: int, prefix: str) -> HttpResponse:
    consumer = _consumer(request, pk, "quota.add_consumerkey", "quota.change_consumerkey")
    old = _key(consumer, prefix)
    form = RotateForm(request.POST or None)
    if not form.is_valid():
        return ask_why(
            request,
            form,
            title=f"Rotate a key of {consumer}",
            question=f"Replace {_called(old)} by a new one?",
            told=["The new key is shown once, on the next page, and cannot be had again."],
            button="Rotate",
            back=_page(consumer),
        )
    if not form.is_first():
        return _sent_before(request, consumer)
    ends = GRACES[form.cleaned_data["ends"]]
    try:
        with transaction.atomic():
            row, key = rotate_key(prefix, grace=form.grace)
            model_admin.log_change(
                request,
                consumer,
                f"Replaced {_called(old)} by {row.prefix}; the old one ends {ends}. "
                f"Reason: {form.cleaned_data['reason']}",
            )
    except KeyNotUsable as error:
        messages.error(request, str(error))
        return redirect(_page(consumer))
    return _shown(request, consumer, row, key, said=f"The old key {prefix} ends {ends}.")


def revoke(request: HttpRequest, model_admin: Any, pk: int, prefix: str) -> HttpResponse:
    consumer = _consumer(request, pk, "quota.change_consumerkey")
    row = _key(consumer, prefix)
    form = ReasonForm(request.POST or None)
    if not form.is_valid():
        return ask_why(
            request,
            form,
            title=f"Revoke a key of {consumer}",
            question=f"Revoke {_called(row)}?",
            told=["Every request with it is refused from then on. This cannot be undone."],
            button="Revoke",
            variant="danger",
            back=_page(consumer),
        )
    try:
        with transaction.atomic():
            revoke_key(prefix)
            model_admin.log_change(request, consumer, f"Revoked {_called(row)}. Reason: {form.cleaned_data['reason']}")
    except KeyNotUsable as error:
        messages.error(request, str(error))
    else:
        messages.success(request, f"Revoked {_called(row)}.")
    return redirect(_page(consumer))


def _sent_before(request: HttpRequest, consumer: Consumer) -> HttpResponse:
    messages.warning(request, "That was done before, and its key was shown then. Rotate the key if it is lost.")
    return redirect(_page(consumer))


def _shown(request: HttpRequest, consumer: Consumer, row: ConsumerKey, key: str, *, said: str) -> HttpResponse:
    """The one page that has the key: in the answer to the POST, and kept by nobody on the way."""
    context = {
        **admin.site.each_context(request),
        "title": f"A key of {consumer}",
        "row": row,
        "key": key,
        "said": said,
        "back": _page(consumer),
    }
    page = TemplateResponse(request, "quota/admin/key.html", context)
    add_never_cache_headers(page)
    return page


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


def _called(row: ConsumerKey) -> str:
    return f"the key “{row.name}” ({row.prefix}…)"

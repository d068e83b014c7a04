"""Asking before something is done. Most changes also need a reason, which goes into the admin history.

There are two ways to ask: a page of its own (`confirm_page`, for actions of a list) and unfold's dialog
(`confirm_dialog`, for a button on a row's page). Both take the same `ReasonForm`.
"""

from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from unfold.forms import BaseDialogForm
from unfold.widgets import UnfoldAdminTextareaWidget

CONFIRMED = "_form_submitted"
"""A hidden field of unfold's dialogs. A POST that has it comes from the form, not from the list's action menu."""

REASON_FIELDSET = ("Reason", {"fields": ("reason",)})
"""The part of an admin form that asks for the reason."""


class ReasonField(forms.CharField):
    """A reason in words. White space alone is refused."""

    def __init__(self) -> None:
        super().__init__(
            max_length=500,
            help_text="Why you do this. It is stored in the history for other people to read.",
            widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}),
        )


class ReasonForm(BaseDialogForm):
    reason = ReasonField()


class ReasonedAdmin:
    """For a ModelAdmin whose form has a `reason`. The reason goes into the admin history and the row's own history."""

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        """Without the reason for a person who can only look."""
        fieldsets = super().get_fieldsets(request, obj)  # type: ignore[misc]
        may = self.has_change_permission(request, obj) if obj else self.has_add_permission(request)  # type: ignore[attr-defined]
        return [fieldset for fieldset in fieldsets if may or fieldset is not REASON_FIELDSET]

    def history_form_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """An old version of a row. A POST restores it, and the library only checks the permission to view."""
        if request.method == "POST" and not self.has_change_permission(request):  # type: ignore[attr-defined]
            raise PermissionDenied
        page: HttpResponse = super().history_form_view(request, *args, **kwargs)  # type: ignore[misc]
        return page

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:  # noqa: FBT001
        obj._change_reason = form.cleaned_data["reason"][:100]  # noqa: SLF001 (django-simple-history's name for it)
        super().save_model(request, obj, form, change)  # type: ignore[misc]

    def construct_change_message(self, request: HttpRequest, form: Any, formsets: Any, add: bool = False) -> str:  # noqa: FBT001, FBT002
        """Each change with its old and new value, and the reason."""
        changes = [
            f"{name.replace('_', ' ')} from {_shown(form.initial.get(name))} to {_shown(form.cleaned_data[name])}"
            for name in form.changed_data
            if name != "reason"
        ]
        done = "Added." if add else f"Changed {', '.join(changes) or 'nothing'}."
        return f"{done} Reason: {form.cleaned_data['reason']}"


def confirm_page(
    request: HttpRequest, form: forms.Form, *, title: str, question: str, button: str, back: str, **details: Any
) -> TemplateResponse:
    """A page that asks before something is done.

    `back` is the address of the "Back" button. `details` can have: `lines` (text below the question), `columns` and
    `rows` (a table of what will change), `hidden` (names and values to post too), `variant` (the button's colour).
    """
    context = {**admin.site.each_context(request), "title": title, "question": question, "form": form}
    return TemplateResponse(request, "common/confirm.html", context | {"button": button, "back": back} | details)


def confirm_dialog(
    title: str, description: str, button: str, form: type[BaseDialogForm] = BaseDialogForm
) -> dict[str, object]:
    """The `dialog` of an unfold action. Its form is sent by htmx."""
    return {"title": title, "description": description, "form_submit_text": button, "form_class": form}


def close_dialog(request: HttpRequest, address: str) -> HttpResponse:
    """Ends a dialog and opens the page at the address, with and without JavaScript."""
    if request.headers.get("HX-Request"):
        return HttpResponse(headers={"HX-Redirect": address})
    return HttpResponseRedirect(address)


def reason_form(request: HttpRequest) -> ReasonForm:
    """The form of a `confirm_page`. It is bound, and so validated, once the page has been sent."""
    return ReasonForm(data=request.POST if CONFIRMED in request.POST else None, request=request)


def action_fields(request: HttpRequest) -> list[tuple[str, str]]:
    """The hidden fields with which a `confirm_page` runs the list's action again, this time with a reason."""
    chosen = [(ACTION_CHECKBOX_NAME, pk) for pk in request.POST.getlist(ACTION_CHECKBOX_NAME)]
    return [("action", request.POST["action"]), ("select_across", request.POST.get("select_across", "0")), *chosen]


def _shown(value: Any) -> str:
    if value is None or value == "":
        return "nothing"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)

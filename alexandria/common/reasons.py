"""Whoever changes something says why; the reason goes into the admin history."""

from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from unfold.widgets import UnfoldAdminTextareaWidget

SAID = "said"
"""Posted by a page that asks for a reason, beside what the list's action had posted."""


WHY = ("Why", {"fields": ("reason",)})
"""The part of a form that asks for the reason."""


class ReasonField(forms.CharField):
    """A reason in words. White space alone is none."""

    def __init__(self) -> None:
        super().__init__(
            max_length=500,
            help_text="For the history: why, for whoever reads it later.",
            widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}),
        )


class ReasonForm(forms.Form):
    reason = ReasonField()


class ReasonedAdmin:
    """For a ModelAdmin whose form has a `reason`: it goes into the admin history and into the row's own history."""

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        """Who may only look is not asked why."""
        fieldsets = super().get_fieldsets(request, obj)  # type: ignore[misc]
        may = self.has_change_permission(request, obj) if obj else self.has_add_permission(request)  # type: ignore[attr-defined]
        return [part for part in fieldsets if may or part is not WHY]

    def history_form_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """A row as it was. What is posted here changes the row, and the library asks only whether one may look."""
        if request.method == "POST" and not self.has_change_permission(request):  # type: ignore[attr-defined]
            raise PermissionDenied
        page: HttpResponse = super().history_form_view(request, *args, **kwargs)  # type: ignore[misc]
        return page

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:  # noqa: FBT001
        obj._change_reason = form.cleaned_data["reason"][:100]  # noqa: SLF001 (django-simple-history's name for it)
        super().save_model(request, obj, form, change)  # type: ignore[misc]

    def construct_change_message(self, request: HttpRequest, form: Any, formsets: Any, add: bool = False) -> str:  # noqa: FBT001, FBT002
        """What was changed, from what to what, and why."""
        changes = [
            f"{name.replace('_', ' ')} from {_told(form.initial.get(name))} to {_told(form.cleaned_data[name])}"
            for name in form.changed_data
            if name != "reason"
        ]
        done = "Added." if add else f"Changed {', '.join(changes) or 'nothing'}."
        return f"{done} Reason: {form.cleaned_data['reason']}"


def ask_why(
    request: HttpRequest, form: forms.Form, *, title: str, question: str, button: str, back: str, **told: Any
) -> TemplateResponse:
    """The page that asks for the reason before something is done.

    `back`: where the way back leads. `told` may have: `told` (lines), `columns` and `rows` (a table of what will be
    changed), `hidden` (names and values to be posted with it), `variant` (the button's look).
    """
    context = {**admin.site.each_context(request), "title": title, "question": question, "form": form}
    return TemplateResponse(request, "quota/admin/ask.html", context | {"button": button, "back": back} | told)


def reason_of(request: HttpRequest) -> ReasonForm:
    """The form of an action's page: bound, and so checked, once the page has been filled in."""
    return ReasonForm(request.POST if SAID in request.POST else None)


def posted_again(request: HttpRequest) -> list[tuple[str, str]]:
    """What an action's page has to post for the list to run the action again, with the reason."""
    chosen = [(ACTION_CHECKBOX_NAME, pk) for pk in request.POST.getlist(ACTION_CHECKBOX_NAME)]
    across = ("select_across", request.POST.get("select_across", "0"))
    return [("action", request.POST["action"]), across, (SAID, "yes"), *chosen]


def _told(value: Any) -> str:
    if value is None or value == "":
        return "nothing"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)

"""Buttons that ask before they do something: a dialog of unfold's, whose form is posted by htmx."""

from django import forms
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from unfold.forms import BaseDialogForm
from unfold.widgets import UnfoldAdminTextInputWidget


class ReasonForm(BaseDialogForm):
    """For what destroys or holds up something: the reason goes into the history."""

    reason = forms.CharField(max_length=200, widget=UnfoldAdminTextInputWidget(), help_text="For the history.")


def ask(title: str, description: str, button: str, form: type[BaseDialogForm] = BaseDialogForm) -> dict[str, object]:
    """The `dialog` of an action, in unfold's terms."""
    return {"title": title, "description": description, "form_submit_text": button, "form_class": form}


def leave_to(request: HttpRequest, address: str) -> HttpResponse:
    """Ends a dialog and shows the page at the address; without JavaScript, too."""
    if request.headers.get("HX-Request"):
        return HttpResponse(headers={"HX-Redirect": address})
    return HttpResponseRedirect(address)

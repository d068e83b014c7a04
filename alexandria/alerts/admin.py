"""Alerts, the webhooks that receive them, and the delivery of each message."""

from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.db.models import F
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils.text import Truncator
from unfold.admin import TabularInline
from unfold.dataclasses import UnfoldAction
from unfold.decorators import action, display

from alexandria.alerts import delivery
from alexandria.alerts.exceptions import NothingToRetry
from alexandria.alerts.models import Alert, Delivery, Webhook, new_seed
from alexandria.alerts.webhooks import secret_of
from alexandria.common.addresses import AddressRefused, check_url
from alexandria.common.admin import ModelAdmin, ReadOnlyAdmin, WithoutTransaction, secret_page
from alexandria.common.reasons import confirm_page
from enrichment.models import Job

SEVERITY = {"info": "info", "warning": "warning", "critical": "danger"}
STATE = {"pending": "warning", "delivered": "success", "failed": "danger"}


def change_page(row: Webhook | Delivery) -> str:
    return reverse(f"admin:alerts_{type(row).__name__.lower()}_change", args=[row.pk])


def shortened(text: str) -> str:
    """Short enough for a row of a list on a phone."""
    return Truncator(text).chars(70)


def confirm(request: HttpRequest, *, title: str, text: str, back: str) -> HttpResponse:
    """A page that asks before something is done. The button has the same text as the title."""
    return confirm_page(request, forms.Form(), title=title, question=title, lines=[text], button=title, back=back)


def show_result(request: HttpRequest, message: Delivery) -> HttpResponse:
    """Redirects to the page of the message and shows how the receiver answered."""
    status = f" with status {message.status}" if message.status and not message.error else ""
    if message.error:
        messages.error(request, f"Not delivered after {message.latency_ms:,} ms. {message.error}")
    else:
        messages.success(request, f"Delivered to {message.to}{status} in {message.latency_ms:,} ms.")
    return HttpResponseRedirect(change_page(message))


class OpenFilter(admin.SimpleListFilter):
    title = "state"
    parameter_name = "open"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "open"), ("no", "recovered")]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return queryset.filter(recovered_at__isnull=self.value() == "yes") if self.value() else queryset


class DeliveryInline(TabularInline):
    model = Delivery
    fields = readonly_fields = ("created_at", "event", "channel", "to", "state", "attempts", "status", "error")
    extra = 0
    can_delete = False
    show_change_link = True
    verbose_name_plural = "messages"

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Alert)
class AlertAdmin(ReadOnlyAdmin):
    """Open alerts first, each group with the newest first."""

    fields = ("title", "severity", "detail", "opened_at", "last_seen_at", "recovered_at", "rule", "key")
    list_display = ("title", "severity_label", "state_label", "opened_at", "recovered_at", "in_short")
    list_filter = (OpenFilter, "severity", "rule")
    date_hierarchy = "opened_at"
    search_fields = ("title", "key", "detail")
    ordering = (F("recovered_at").desc(nulls_first=True), "-opened_at")
    inlines = (DeliveryInline,)

    @display(description="severity", ordering="severity", label=SEVERITY)
    def severity_label(self, alert: Alert) -> tuple[str, str]:
        return alert.severity, alert.get_severity_display()

    @display(description="state", label={"open": "danger", "recovered": "success"})
    def state_label(self, alert: Alert) -> str:
        return "recovered" if alert.recovered_at else "open"

    @admin.display(description="detail")
    def in_short(self, alert: Alert) -> str:
        return shortened(alert.detail)


class WebhookForm(forms.ModelForm):  # type: ignore[type-arg]
    def clean_url(self) -> str:
        """Refuses the addresses that `webhooks.send` refuses. It resolves the name of the host."""
        url: str = self.cleaned_data["url"]
        if not url and (self.cleaned_data.get("consumer") or self.instance.consumer_id):
            return url
        try:
            check_url(url)
        except AddressRefused as refused:
            raise forms.ValidationError(str(refused)) from refused
        return url


@admin.register(Webhook)
class WebhookAdmin(ModelAdmin, WithoutTransaction):  # type: ignore[misc]  # the same method, with other stubs
    form = WebhookForm
    fields = ("name", "consumer", "url", "min_severity", "active")
    list_display = ("name", "host", "consumer", "min_severity", "active", "created_at")
    list_select_related = ("consumer",)
    list_filter = ("active", "min_severity")
    actions_detail = ("send_test", "new_secret")

    @admin.display(description="host")
    def host(self, webhook: Webhook) -> str:
        """Without the path, which can be a secret."""
        return webhook.host

    def get_fields(self, request: HttpRequest, obj: Webhook | None = None) -> tuple[str, ...]:
        """A person who cannot change the address does not see its path, either."""
        may_change = self.has_change_permission(request, obj) if obj else self.has_add_permission(request)
        return self.fields if may_change else ("name", "consumer", "host", "min_severity", "active")

    def get_readonly_fields(self, request: HttpRequest, obj: Webhook | None = None) -> tuple[str, ...]:
        """A webhook keeps its consumer: its secret is what that consumer's receivers know."""
        return (*super().get_readonly_fields(request, obj), "consumer") if obj else ()

    def get_actions_detail(self, request: HttpRequest, object_id: str) -> list[UnfoldAction]:
        """Without the test of a webhook that has no address."""
        webhook = self.get_object(request, object_id)
        offered: list[UnfoldAction] = super().get_actions_detail(request, object_id)
        has_address = webhook is not None and bool(webhook.url)
        return [each for each in offered if has_address or each.method.original_function_name != "send_test"]

    def response_add(self, request: HttpRequest, obj: Webhook, post_url_continue: Any = None) -> HttpResponse:
        return self._show_secret(request, obj)

    def has_test_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return bool(request.user.has_perm("alerts.test_webhook"))

    @action(description="Send a test", permissions=["test"], icon="send")
    def send_test(self, request: HttpRequest, object_id: str) -> HttpResponse:
        webhook = get_object_or_404(Webhook, pk=object_id)
        if request.method != "POST":
            text = f"Alexandria sends a signed test message to {webhook.host}."
            return confirm(request, title="Send a test", text=text, back=change_page(webhook))
        self.log_change(request, webhook, "Sent a test message.")
        return show_result(request, delivery.send_test(webhook))

    @action(description="New secret", permissions=["change"], icon="key")
    def new_secret(self, request: HttpRequest, object_id: str) -> HttpResponse:
        webhook = get_object_or_404(Webhook, pk=object_id)
        if request.method != "POST":
            text = "From now on messages are signed with the new secret. The old secret is no longer valid."
            return confirm(request, title="Create a new secret", text=text, back=change_page(webhook))
        webhook.seed = new_seed()
        webhook.save(update_fields=["seed"])
        self.log_change(request, webhook, "Created a new secret.")
        return self._show_secret(request, webhook)

    def _show_secret(self, request: HttpRequest, webhook: Webhook) -> HttpResponse:
        signed = f"to {webhook.host}" if webhook.consumer is None else f"about the jobs of {webhook.consumer}"
        return secret_page(
            request,
            title=f"The secret of {webhook}",
            heading=f"The secret of {webhook}",
            label="Secret",
            secret=secret_of(webhook),
            lines=[
                f"Messages {signed} are signed with this secret. Give it to the receiver.",
                "If it is lost, you can replace it with a new secret.",
            ],
            back=change_page(webhook),
        )


@admin.register(Delivery)
class DeliveryAdmin(ReadOnlyAdmin):
    fields = (
        *("created_at", "event", "alert", "job", "channel", "webhook", "to", "payload", "state", "attempts"),
        *("next_attempt_at", "status", "latency_ms", "error", "ended_at"),
    )  # not the address that a job names: its path can be secret
    list_display = ("created_at", "event", "about", "to", "state_label", "attempts", "status", "latency", "failure")
    list_filter = ("state", "channel", "event", "webhook")
    list_select_related = ("alert", "job", "webhook")
    date_hierarchy = "created_at"
    actions_list = ("test_mail",)
    actions_detail = ("retry",)

    @admin.display(description="about")
    def about(self, message: Delivery) -> Alert | Job | None:
        return message.alert or message.job

    @display(description="state", ordering="state", label=STATE)
    def state_label(self, message: Delivery) -> tuple[str, str]:
        return message.state, message.get_state_display()

    @admin.display(description="took", ordering="latency_ms")
    def latency(self, message: Delivery) -> str | None:
        return None if message.latency_ms is None else f"{message.latency_ms:,}\N{NO-BREAK SPACE}ms"

    @admin.display(description="error")
    def failure(self, message: Delivery) -> str:
        return shortened(message.error)

    def has_test_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return bool(settings.ALERT_EMAIL_TO and request.user.has_perm("alerts.test_webhook"))

    def has_retry_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return bool(request.user.has_perm("alerts.retry_delivery"))

    def get_actions_detail(self, request: HttpRequest, object_id: str) -> list[Any]:
        can_retry = Delivery.objects.filter(pk=object_id, state=Delivery.State.FAILED).exists()
        return super().get_actions_detail(request, object_id) if can_retry else []

    @action(description="Send a test e-mail", permissions=["test"], icon="send")
    def test_mail(self, request: HttpRequest) -> HttpResponse:
        if request.method != "POST":
            text = f"Alexandria sends a test message to {', '.join(settings.ALERT_EMAIL_TO)}."
            back = reverse("admin:alerts_delivery_changelist")
            return confirm(request, title="Send a test e-mail", text=text, back=back)
        message = delivery.send_test(None)
        self.log_change(request, message, "Sent a test message.")
        return show_result(request, message)

    @action(description="Send again", permissions=["retry"], icon="refresh")
    def retry(self, request: HttpRequest, object_id: str) -> HttpResponse:
        message = get_object_or_404(Delivery, pk=object_id)
        if request.method != "POST":
            text = f"Alexandria sends the message to {message.to} now. If this fails, it tries again later."
            return confirm(request, title="Send again", text=text, back=change_page(message))
        try:
            message = delivery.retry(message.pk)
        except NothingToRetry as error:
            messages.warning(request, str(error))
            return HttpResponseRedirect(change_page(message))
        self.log_change(request, message, "Sent again.")
        return show_result(request, message)

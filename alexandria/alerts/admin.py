"""Alerts, the webhooks that tell of them, and what became of each message."""

from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.db.models import F
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.text import Truncator
from unfold.admin import ModelAdmin, TabularInline
from unfold.decorators import action, display

from alexandria.alerts import delivery
from alexandria.alerts.exceptions import AddressRefused, NothingToRetry
from alexandria.alerts.models import Alert, Delivery, Webhook, new_seed
from alexandria.alerts.webhooks import check_url, secret_of
from alexandria.common.admin import ReadOnlyAdmin, WithoutTransaction
from alexandria.common.reasons import ask_why

SEVERITY = {"info": "info", "warning": "warning", "critical": "danger"}
STATE = {"pending": "warning", "delivered": "success", "failed": "danger"}


def change_page(row: Webhook | Delivery) -> str:
    return reverse(f"admin:alerts_{type(row).__name__.lower()}_change", args=[row.pk])


def shortened(text: str) -> str:
    """As much as a row of a list holds, on a phone too."""
    return Truncator(text).chars(70)


def ask(request: HttpRequest, *, title: str, text: str, back: str) -> HttpResponse:
    """A page that asks before something is done. `title`: also its button's; `back`: where the way back leads."""
    return ask_why(request, forms.Form(), title=title, question=title, told=[text], button=title, back=back)


def tell(request: HttpRequest, message: Delivery) -> HttpResponse:
    """To the message, with what came back for it."""
    status = f" with status {message.status}" if message.status and not message.error else ""
    if message.error:
        messages.error(request, f"Not delivered after {message.latency_ms:,} ms. {message.error}")
    else:
        messages.success(request, f"Delivered to {message.to}{status} in {message.latency_ms:,} ms.")
    return HttpResponseRedirect(change_page(message))


class OpenFilter(admin.SimpleListFilter):
    title = "whether it is open"
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
    """Open ones first, the newest first."""

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
        """Refuses what `webhooks.send` would refuse. Looks the host up."""
        url: str = self.cleaned_data["url"]
        try:
            check_url(url)
        except AddressRefused as refused:
            raise forms.ValidationError(str(refused)) from refused
        return url


@admin.register(Webhook)
class WebhookAdmin(ModelAdmin, WithoutTransaction):
    form = WebhookForm
    fields = ("name", "url", "min_severity", "active")
    list_display = ("name", "host", "min_severity", "active", "created_at")
    list_filter = ("active", "min_severity")
    actions_detail = ("send_test", "new_secret")

    @admin.display(description="host")
    def host(self, webhook: Webhook) -> str:
        """Without the path, which may be a secret."""
        return webhook.host

    def get_fields(self, request: HttpRequest, obj: Webhook | None = None) -> tuple[str, ...]:
        """Who may not change the address is not shown its path either."""
        may_change = self.has_change_permission(request, obj) if obj else self.has_add_permission(request)
        return self.fields if may_change else ("name", "host", "min_severity", "active")

    def response_add(self, request: HttpRequest, obj: Webhook, post_url_continue: Any = None) -> HttpResponse:
        return self._show_secret(request, obj)

    def has_test_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return bool(request.user.has_perm("alerts.test_webhook"))

    @action(description="Send a test", permissions=["test"], icon="send")
    def send_test(self, request: HttpRequest, object_id: str) -> HttpResponse:
        webhook = get_object_or_404(Webhook, pk=object_id)
        if request.method != "POST":
            return self._ask(request, webhook, "Send a test", f"A signed test message is sent to {webhook.host} now.")
        self.log_change(request, webhook, "Sent a test message.")
        return tell(request, delivery.send_test(webhook))

    @action(description="New secret", permissions=["change"], icon="key")
    def new_secret(self, request: HttpRequest, object_id: str) -> HttpResponse:
        webhook = get_object_or_404(Webhook, pk=object_id)
        if request.method != "POST":
            warning = "At once, messages are signed with a new secret, and no longer with the present one."
            return self._ask(request, webhook, "Make a new secret", warning)
        webhook.seed = new_seed()
        webhook.save(update_fields=["seed"])
        self.log_change(request, webhook, "Made a new secret.")
        return self._show_secret(request, webhook)

    def _ask(self, request: HttpRequest, webhook: Webhook, title: str, text: str) -> HttpResponse:
        return ask(request, title=title, text=text, back=change_page(webhook))

    def _show_secret(self, request: HttpRequest, webhook: Webhook) -> HttpResponse:
        """The only page that ever shows it."""
        context = {
            **self.admin_site.each_context(request),
            "title": f"The secret of {webhook}",
            "opts": self.opts,
            "original": webhook,
            "secret": secret_of(webhook),
            "back": change_page(webhook),
        }
        return TemplateResponse(request, "admin/alerts/webhook/secret.html", context)


@admin.register(Delivery)
class DeliveryAdmin(ReadOnlyAdmin):
    list_display = ("created_at", "event", "alert", "to", "state_label", "attempts", "status", "latency", "failure")
    list_filter = ("state", "channel", "event", "webhook")
    list_select_related = ("alert", "webhook")
    date_hierarchy = "created_at"
    actions_list = ("test_mail",)
    actions_detail = ("retry",)

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
        given_up = Delivery.objects.filter(pk=object_id, state=Delivery.State.FAILED).exists()
        return super().get_actions_detail(request, object_id) if given_up else []

    @action(description="Send a test e-mail", permissions=["test"], icon="send")
    def test_mail(self, request: HttpRequest) -> HttpResponse:
        if request.method != "POST":
            text = f"A test message is sent to {', '.join(settings.ALERT_EMAIL_TO)} now."
            back = reverse("admin:alerts_delivery_changelist")
            return ask(request, title="Send a test e-mail", text=text, back=back)
        message = delivery.send_test(None)
        self.log_change(request, message, "Sent a test message.")
        return tell(request, message)

    @action(description="Send again", permissions=["retry"], icon="refresh")
    def retry(self, request: HttpRequest, object_id: str) -> HttpResponse:
        message = get_object_or_404(Delivery, pk=object_id)
        if request.method != "POST":
            text = f"It is sent to {message.to} once more now, and again later if that fails."
            return ask(request, title="Send again", text=text, back=change_page(message))
        try:
            message = delivery.retry(message.pk)
        except NothingToRetry as error:
            messages.warning(request, str(error))
            return HttpResponseRedirect(change_page(message))
        self.log_change(request, message, "Sent again.")
        return tell(request, message)

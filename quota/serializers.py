from typing import Any

from django.utils.functional import cached_property
from drf_spectacular.utils import OpenApiExample, extend_schema_serializer
from rest_framework import serializers
from rest_framework.utils.serializer_helpers import BindingDict

from quota.limits import LIMITS
from quota.models import Call, Consumer, Reconciliation, Refusal
from quota.prices import BATCH_PRICES, BatchPrice
from quota.selectors.prices import Prices, get_prices
from quota.selectors.status import QuotaStatus, last_reconciliation

MAX_HISTORY_DAYS = 400
MAX_PAGE_SIZE = 1000
MAX_FORECAST_CALLS = 1_000_000
EXAMPLE_STATUS: dict[str, Any] = {
    "daily_limit": 15_000,
    "safety_limit": 13_000,
    "used": 8_400,
    "reserved": 56,
    "remaining": 4_544,
    "reset_at": "2026-05-06T00:00:00Z",
    "percentage_used": 64,
    "enforcement": "enforce",
    "can_make_calls": True,
    "closed_reason": None,
    "paused_until": None,
    "paused_reason": None,
    "requests": 311,
}
EXAMPLE_COUNTER = {
    "answered_at": "2026-05-05T12:00:00Z",
    "spent": 8_401,
    "total": 15_000,
    "left": 6_599,
    "used": 8_400,
    "drift": 1,
    "raised_by": 1,
    "ignored": "",
    "day_change": "",
    "price_seen": "",
    "limit_to": None,
}


def example(value: dict[str, Any], **options: Any) -> Any:
    """Decorator: the example that the schema shows for the serializer."""
    return extend_schema_serializer(examples=[OpenApiExample("example", value, **options)])


class QuotaStatusSerializer(serializers.Serializer[Any]):
    """Today's quota, in calls. remaining = safety_limit - used - reserved, never below 0; 0 while the day is closed."""

    daily_limit = serializers.IntegerField(help_text="Calls a day that ISBNdb sells us.")
    safety_limit = serializers.IntegerField(help_text="Maximum number of these calls that we use.")
    used = serializers.IntegerField(help_text="Calls spent today: the prices of all requests, with any outcome.")
    reserved = serializers.IntegerField(help_text="Calls reserved for running operations.")
    remaining = serializers.IntegerField(help_text="Calls that are free. 0 while the day is closed.")
    reset_at = serializers.DateTimeField(help_text="The next midnight UTC.")
    percentage_used = serializers.IntegerField(help_text="Of the safety limit, rounded down.")
    enforcement = serializers.ChoiceField(
        ["enforce", "observe"], help_text="observe: calls are counted and never refused."
    )
    can_make_calls = serializers.BooleanField(
        help_text="Whether a call would be granted now to a consumer with no floor and no daily budget."
    )
    closed_reason = serializers.CharField(
        allow_null=True, help_text="Why the day is closed, by ISBNdb's answer. null: the day is open."
    )
    paused_until = serializers.DateTimeField(
        allow_null=True, help_text="Nothing is sent to ISBNdb before, and can_make_calls is false. null: no pause."
    )
    paused_reason = serializers.CharField(
        allow_null=True, help_text="Why: ISBNdb asks for it, or answers cannot be stored."
    )
    requests = serializers.IntegerField(help_text="Requests dispatched to ISBNdb today. Each costs its price in calls.")


@example(EXAMPLE_COUNTER)
class IsbndbCounterSerializer(serializers.Serializer[Any]):
    """ISBNdb's own counter when it was last requested today, and ours at that moment."""

    answered_at = serializers.DateTimeField()
    spent = serializers.IntegerField(help_text="Calls that ISBNdb counts.")
    total = serializers.IntegerField(help_text="Calls a day that ISBNdb sells us.")
    left = serializers.IntegerField(help_text="Calls that, by ISBNdb's own answer, are left today.")
    used = serializers.IntegerField(help_text="Calls that we counted.")
    drift = serializers.IntegerField(help_text="ISBNdb's count minus ours; below 0 when we count more.")
    raised_by = serializers.IntegerField(help_text="Calls added to our ledger because of it.")
    ignored = serializers.CharField(help_text="Why the answer was not used. Empty when it was used.")
    day_change = serializers.ChoiceField(
        ["", *Reconciliation.DayChange.values],
        help_text="closed: nothing was left, so the answer closed the day. reopened: calls were left, so it opened the "
        "closed day again. Empty: it changed neither.",
    )
    price_seen = serializers.ChoiceField(
        ["", *(price for price, _ in BATCH_PRICES)],
        help_text="The price of a batch that explains the difference. isbn: our count was raised, and that price is in "
        "force. request: a person must confirm it. Empty: no price explains it.",
    )
    limit_to = serializers.IntegerField(
        allow_null=True,
        help_text="Today's limit since this answer, if ISBNdb's own limit changed it. null: it did not.",
    )


class QuotaCounterSerializer(serializers.Serializer[Any]):
    isbndb = IsbndbCounterSerializer(allow_null=True, help_text="null: not requested today.")


class QuotaPricesSerializer(serializers.Serializer[Prices]):
    batch_price = serializers.ChoiceField(
        [price.value for price in BatchPrice],
        help_text="What a batch costs. request: 1 call. isbn: 1 call for each ISBN. unknown: it is not measured yet, "
        "and 1 call for each ISBN is charged.",
    )
    batch_price_since = serializers.DateTimeField(
        source="since", allow_null=True, help_text="null: it is unknown, or the environment sets it."
    )
    key_price = serializers.IntegerField(
        allow_null=True,
        help_text="Calls that ISBNdb charges for GET /key, as measured: 0 or 1. null: not measured, so 1 is charged.",
    )


@example(
    EXAMPLE_STATUS
    | {"isbndb": EXAMPLE_COUNTER, "key_price": 1}
    | {"batch_price": "isbn", "batch_price_since": "2026-05-01T06:00:00Z"}
)
class QuotaStatusDetailSerializer(QuotaPricesSerializer, QuotaCounterSerializer, QuotaStatusSerializer):
    """Today's quota, ISBNdb's own counter, and the price of a batch."""


def status_detail(status: QuotaStatus) -> dict[str, Any]:
    """The body of GET /api/quota/status. Raises QuotaUnavailable."""
    counter = {"isbndb": last_reconciliation(status.day)}
    return {
        **QuotaStatusSerializer(status).data,
        **QuotaCounterSerializer(counter).data,
        **QuotaPricesSerializer(get_prices()).data,
    }


class ConsumerSerializer(serializers.Serializer[Any]):
    slug = serializers.CharField()
    kind = serializers.ChoiceField(Consumer.Kind.choices)
    active = serializers.BooleanField()


class RefusalSerializer(serializers.ModelSerializer[Refusal]):
    """Refusals by one limit within ten seconds are one entry, with the figures of the first."""

    class Meta:
        model = Refusal
        fields = ("id", "at", "last_at", "times", "operation", "source", "limit", "asked", "free", "retry_at")
        read_only_fields = fields


class ConsumerLimitSerializer(serializers.Serializer[Any]):
    """How many things of one kind the consumer has, and may have at most."""

    limit = serializers.CharField(help_text="The name of the setting.")
    what = serializers.CharField(help_text="What is counted.")
    allowed = serializers.IntegerField()
    used = serializers.IntegerField()


@example(
    {
        "consumer": {"slug": "reader", "kind": "api", "active": True},
        "floor": 0,
        "daily_budget": 2_000,
        "cap_per_operation": None,
        "used": 1_990,
        "reserved": 0,
        "requests": 1_990,
        "free": 10,
        "limited_by": "daily_budget",
        "refusals": [
            {
                "id": "7f3c1c52-7d0b-4c0e-9a53-0f4b9f8f2b11",
                "at": "2026-05-05T11:58:07Z",
                "last_at": "2026-05-05T11:58:09Z",
                "times": 3,
                "operation": "batch-direct",
                "source": "shelf 7",
                "limit": "daily_budget",
                "asked": 12,
                "free": 10,
                "retry_at": "2026-05-06T00:00:00Z",
            }
        ],
        "limits": [
            {"limit": "MAX_JOBS_PER_CONSUMER", "what": "jobs that have not ended", "allowed": 20, "used": 2},
        ],
        "quota": EXAMPLE_STATUS,
    }
)
class AllowanceSerializer(serializers.Serializer[Any]):
    """What the key's consumer may spend today, in calls."""

    consumer = ConsumerSerializer()
    floor = serializers.IntegerField(
        source="consumer.floor", help_text="Calls that the consumer must leave free for others."
    )
    daily_budget = serializers.IntegerField(
        source="consumer.daily_budget", allow_null=True, help_text="null: the consumer has no budget."
    )
    cap_per_operation = serializers.IntegerField(
        source="consumer.cap_per_operation", allow_null=True, help_text="null: the consumer has no cap."
    )
    used = serializers.IntegerField(help_text="Calls that the consumer spent today.")
    reserved = serializers.IntegerField(help_text="Calls that the consumer has reserved.")
    requests = serializers.IntegerField(help_text="Requests that the consumer dispatched today.")
    free = serializers.IntegerField(help_text="Calls that one operation of the consumer could reserve now.")
    limited_by = serializers.ChoiceField(
        [*LIMITS, "harvest_off"], help_text="The limit or switch that would refuse one call more."
    )
    limits = ConsumerLimitSerializer(many=True, help_text="Limits that are not calls, and what is used of each.")
    refusals = RefusalSerializer(many=True, help_text="The consumer's last ten, the newest first.")
    quota = QuotaStatusSerializer()


class QuerySerializer(serializers.Serializer[dict[str, Any]]):
    """The parameters of a request. The error of a field with choices, or with a list of them, lists the choices."""

    @cached_property
    def fields(self) -> BindingDict:
        fields = super().fields
        for field in fields.values():
            one = getattr(field, "child", field)
            if isinstance(one, serializers.ChoiceField):
                words = ", ".join(f'"{word}"' for word in one.choices)
                one.error_messages["invalid_choice"] = f'"{{input}}" is not one of {words}.'
        return fields


class HistoryQuerySerializer(QuerySerializer):
    days = serializers.IntegerField(
        min_value=1, max_value=MAX_HISTORY_DAYS, default=30, help_text="Number of UTC days, including today."
    )


class ConsumerUsedSerializer(serializers.Serializer[Any]):
    consumer = serializers.CharField(source="consumer.slug")
    used = serializers.IntegerField(help_text="Calls.")
    requests = serializers.IntegerField()


class DayUsageSerializer(serializers.Serializer[Any]):
    day = serializers.DateField(help_text="UTC.")
    daily_limit = serializers.IntegerField()
    safety_limit = serializers.IntegerField()
    used = serializers.IntegerField(help_text="Calls.")
    requests = serializers.IntegerField(help_text="Requests dispatched to ISBNdb.")
    closed = serializers.BooleanField(
        source="is_closed", help_text="Whether ISBNdb closed the day because its quota was used up."
    )
    consumers = ConsumerUsedSerializer(
        source="usages", many=True, help_text="Consumers that sent requests or used calls, the largest use first."
    )


@example(
    {
        "days": [
            {
                "day": "2026-05-05",
                "daily_limit": 15_000,
                "safety_limit": 13_000,
                "used": 8_400,
                "requests": 311,
                "closed": False,
                "consumers": [
                    {"consumer": "harvest", "used": 6_400, "requests": 300},
                    {"consumer": "reader", "used": 2_000, "requests": 11},
                ],
            }
        ]
    }
)
class HistorySerializer(serializers.Serializer[Any]):
    days = DayUsageSerializer(many=True, help_text="The newest first. Days without a request are left out.")


class ForecastQuerySerializer(QuerySerializer):
    calls = serializers.IntegerField(min_value=1, max_value=MAX_FORECAST_CALLS, help_text="Calls that a job needs.")
    requests = serializers.IntegerField(
        min_value=1,
        max_value=MAX_FORECAST_CALLS,
        required=False,
        help_text="Requests in which it spends them. Default: one for each call.",
    )


@example({"calls": 5_000, "finishes_today": False, "today": 4_544, "days": 2, "finish_at": "2026-05-06T00:02:42Z"})
class ForecastSerializer(serializers.Serializer[Any]):
    """When the key's consumer could spend the calls, if no other consumer spent any from now on."""

    calls = serializers.IntegerField()
    finishes_today = serializers.BooleanField()
    today = serializers.IntegerField(help_text="How many of them could be spent today.")
    days = serializers.IntegerField(
        help_text="UTC days until it finishes, today included: 1 is today, 2 is tomorrow. 0 if `finish_at` is null."
    )
    finish_at = serializers.DateTimeField(
        allow_null=True,
        help_text="When the last request would be sent. null: the consumer's limits never allow it, or a switch "
        "refuses its calls for now.",
    )


class CallsQuerySerializer(QuerySerializer):
    day = serializers.DateField(required=False, help_text="A UTC day. Default: today.")
    operation = serializers.CharField(max_length=64, required=False)
    outcome = serializers.ChoiceField(Call.Outcome.choices, required=False)
    consumer = serializers.SlugField(
        max_length=64, required=False, help_text="A slug. Only a manager's key can see the requests of other consumers."
    )
    cursor = serializers.CharField(required=False, help_text="From `next` or `previous` of a page.")
    page_size = serializers.IntegerField(
        min_value=1, max_value=MAX_PAGE_SIZE, required=False, help_text="Default: 100."
    )


class CallSerializer(serializers.ModelSerializer[Call]):
    consumer = serializers.CharField(source="consumer.slug")
    reservation = serializers.UUIDField(
        source="reservation_id",
        allow_null=True,
        help_text="null: not a request of Alexandria, but calls made outside it, or corrected by a person.",
    )
    share_of = serializers.IntegerField(
        source="share_of_id",
        allow_null=True,
        help_text="The id of the request, if this row is only a share of its price: several consumers pay for a "
        "batch of the queue. null: the request itself.",
    )
    calls = serializers.IntegerField(help_text="The price of the request, or a share of it. 0: it was free.")

    class Meta:
        model = Call
        fields = (
            "id",
            "dispatched_at",
            "consumer",
            "operation",
            "reservation",
            "share_of",
            "calls",
            "method",
            "path",
            "outcome",
            "status",
            "latency_ms",
            "isbns_asked",
            "isbns_found",
        )
        read_only_fields = fields


@example(
    {
        "next": "https://books.example/api/quota/calls?cursor=cD0xMjM0NQ%3D%3D",
        "previous": None,
        "results": [
            {
                "id": 12_345,
                "dispatched_at": "2026-05-05T11:57:03.120000Z",
                "consumer": "reader",
                "operation": "batch-direct",
                "reservation": "0d3b6f1e-5a80-4d8f-8a43-4b1f1c2f9d10",
                "share_of": None,
                "calls": 1_000,
                "method": "POST",
                "path": "/books",
                "outcome": "ok",
                "status": 200,
                "latency_ms": 412,
                "isbns_asked": 1_000,
                "isbns_found": 973,
            }
        ],
    }
)
class CallPageSerializer(serializers.Serializer[Any]):
    next = serializers.URLField(allow_null=True, help_text="The page of older requests. null: there are none.")
    previous = serializers.URLField(allow_null=True, help_text="The page of newer requests.")
    results = CallSerializer(many=True, help_text="The newest first.")

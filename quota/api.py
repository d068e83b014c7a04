"""The quota API, and the rate-limit headers of every answer that used the quota."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import PermissionDenied, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import ListField, Serializer
from rest_framework.views import APIView

from alexandria.common.pagination import CursorPages
from quota.authentication import consumer_of, sees_all
from quota.selectors.allowances import get_allowance
from quota.selectors.forecast import forecast
from quota.selectors.history import journal, usage_history
from quota.selectors.status import QuotaStatus, get_status
from quota.serializers import (
    MAX_PAGE_SIZE,
    AllowanceSerializer,
    CallPageSerializer,
    CallSerializer,
    CallsQuerySerializer,
    ForecastQuerySerializer,
    ForecastSerializer,
    HistoryQuerySerializer,
    HistorySerializer,
    QuotaStatusDetailSerializer,
    status_detail,
)

SECONDS_A_DAY = 86_400
PAGING = ("cursor", "page_size")


def ratelimit_headers(status: QuotaStatus) -> dict[str, str]:
    """RateLimit-Policy and RateLimit of draft-ietf-httpapi-ratelimit-headers."""
    return {
        "RateLimit-Policy": f'"daily";q={status.safety_limit};w={SECONDS_A_DAY}, "pace";q={status.max_rps};w=1',
        "RateLimit": f'"daily";r={status.remaining};t={status.seconds_to_reset}',
    }


def asked_for(request: Request, serializer: type[Serializer[Any]]) -> dict[str, Any]:
    """The checked query parameters, without those of paging. An empty parameter counts as not given.

    A parameter that is a list can come several times. Raises ValidationError, also for a parameter that `serializer`
    does not have: a misspelt filter would be ignored.
    """
    lists = {name for name, field in serializer().fields.items() if isinstance(field, ListField)}
    given = {name: [value for value in values if value] for name, values in request.query_params.lists()}
    query = serializer(data={name: values if name in lists else values[-1] for name, values in given.items() if values})
    known = [*query.fields, *(name for name in PAGING if name not in query.fields)]
    if unknown := [name for name in request.query_params if name not in known]:
        known_names = ", ".join(f'"{name}"' for name in known)
        raise ValidationError(dict.fromkeys(unknown[:10], f"There is no such parameter. Known: {known_names}."))
    query.is_valid(raise_exception=True)
    return {name: value for name, value in query.validated_data.items() if name not in PAGING}


class QuotaStatusView(APIView):
    @extend_schema(operation_id="quota_status", summary="Today's quota", responses={200: QuotaStatusDetailSerializer})
    def get(self, request: Request) -> Response:
        """How many calls are used, reserved and free today, what a batch costs, and when the count is reset."""
        status = get_status()
        return Response(status_detail(status), headers=ratelimit_headers(status))


class MyQuotaView(APIView):
    @extend_schema(operation_id="quota_me", summary="My share of the quota", responses={200: AllowanceSerializer})
    def get(self, request: Request) -> Response:
        """What the key's consumer used today, what is free for it, what limits it, and its last refusals."""
        allowance = get_allowance(consumer_of(request))
        return Response(AllowanceSerializer(allowance).data, headers=ratelimit_headers(allowance.quota))


class HistoryView(APIView):
    @extend_schema(
        operation_id="quota_history",
        summary="Use by day and by consumer",
        parameters=[HistoryQuerySerializer],
        responses={200: HistorySerializer},
    )
    def get(self, request: Request) -> Response:
        """Each day's limits, how many calls were used, and how many of them by the key's consumer.

        With a manager's key: by which consumers.
        """
        own = None if sees_all(request) else consumer_of(request).slug
        days = usage_history(asked_for(request, HistoryQuerySerializer)["days"], consumer=own)
        return Response(HistorySerializer({"days": days}).data)


class ForecastView(APIView):
    @extend_schema(
        operation_id="quota_forecast",
        summary="Whether a job can finish today, and if not, when",
        parameters=[ForecastQuerySerializer],
        responses={200: ForecastSerializer},
    )
    def get(self, request: Request) -> Response:
        """Computed from what is free for the key's consumer now, its limits from tomorrow on, and the pace."""
        wanted = asked_for(request, ForecastQuerySerializer)
        return Response(ForecastSerializer(forecast(**wanted, consumer=consumer_of(request).slug)).data)


class CallPages(CursorPages):
    # Ordered by the id, PostgreSQL may read all newer calls to find those of an old day.
    ordering = ("-dispatched_at", "-id")
    page_size = 100
    page_size_query_param = "page_size"
    max_page_size = MAX_PAGE_SIZE


class CallsView(APIView):
    @extend_schema(
        operation_id="quota_calls",
        summary="The journal: requests of one day, with their prices",
        parameters=[CallsQuerySerializer],
        responses={200: CallPageSerializer},
    )
    def get(self, request: Request) -> Response:
        """The requests of the key's consumer or, with a manager's key, of all consumers. The newest first."""
        wanted = asked_for(request, CallsQuerySerializer)
        pages = CallPages()
        own = consumer_of(request).slug
        if not sees_all(request) and wanted.setdefault("consumer", own) != own:
            raise PermissionDenied("Only a manager's key can see the requests of another consumer.")
        page = pages.paginate_queryset(journal(**wanted), request, view=self)
        return pages.get_paginated_response(CallSerializer(page, many=True).data)

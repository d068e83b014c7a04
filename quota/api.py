"""The quota API, and the headers of every answer that touched the quota."""

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from quota.selectors import QuotaStatus, get_status
from quota.serializers import QuotaStatusDetailSerializer, status_detail

SECONDS_A_DAY = 86_400


def ratelimit_headers(status: QuotaStatus) -> dict[str, str]:
    """RateLimit-Policy and RateLimit as in draft-ietf-httpapi-ratelimit-headers."""
    return {
        "RateLimit-Policy": f'"daily";q={status.safety_limit};w={SECONDS_A_DAY}, "pace";q={status.max_rps};w=1',
        "RateLimit": f'"daily";r={status.remaining};t={status.seconds_to_reset}',
    }


class QuotaStatusView(APIView):
    @extend_schema(operation_id="quota_status", summary="Today's quota", responses={200: QuotaStatusDetailSerializer})
    def get(self, request: Request) -> Response:
        """How many calls are used, set aside and free today, and when the count starts anew."""
        status = get_status()
        return Response(status_detail(status), headers=ratelimit_headers(status))

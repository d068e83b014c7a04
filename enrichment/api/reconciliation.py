"""ISBNdb's own counter, asked for now."""

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from enrichment.reconciliation import reconcile
from quota.api import ratelimit_headers
from quota.authentication import consumer_of
from quota.selectors import get_status
from quota.serializers import IsbndbCounterSerializer


class ReconcileView(APIView):
    @extend_schema(
        operation_id="quota_reconcile",
        summary="Ask ISBNdb for its own counter, and raise ours where it is lower",
        request=None,
        responses={200: IsbndbCounterSerializer},
        extensions={"x-spends-calls": True},
    )
    def post(self, request: Request) -> Response:
        """Costs one call. A cron does the same every ten minutes; this is for whoever wants to know now."""
        found = reconcile(consumer=consumer_of(request).slug, source="api")
        return Response(IsbndbCounterSerializer(found).data, headers=ratelimit_headers(get_status()))

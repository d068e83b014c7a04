"""Asking ISBNdb for its own counter now."""

import time

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from enrichment.api.answers import spending_answer
from enrichment.serializers.reconciliation import ReconciledSerializer, ReconciliationAnswerSerializer
from enrichment.services.reconciliation import reconcile_on_request
from quota.authentication import consumer_of


class ReconcileView(APIView):
    @extend_schema(
        operation_id="quota_reconcile",
        summary="Ask ISBNdb for its own counter, and raise ours if it is lower",
        request=None,
        responses={200: ReconciliationAnswerSerializer},
        extensions={"x-spends-calls": True, "x-asks-the-counter": True},
    )
    def post(self, request: Request) -> Response:
        """Costs one call, or none if ISBNdb does not charge GET /key.

        A cron does the same every ten minutes. Use this when you need to know now. All keys together can do so once in
        ten seconds.
        """
        started = time.monotonic()
        found = reconcile_on_request(consumer=consumer_of(request).slug, source="api")
        return spending_answer(ReconciledSerializer(found).data, started=started, headers={})

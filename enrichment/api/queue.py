"""The queue: adding ISBNs, and looking at what waits."""

from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from enrichment.api.lists import LIST_PARSERS, list_bodies, read_list
from enrichment.selectors.queue import get_queue, glance_at_queue
from enrichment.serializers.books import IsbnItemSerializer
from enrichment.serializers.queue import (
    AcceptedSerializer,
    EnqueueAnswerSerializer,
    EnqueueRequestSerializer,
    QueueSerializer,
    YourPartSerializer,
)
from enrichment.services.queue import enqueue
from quota.api import ratelimit_headers
from quota.authentication import consumer_of
from quota.serializers import QuotaStatusSerializer


class QueueView(APIView):
    parser_classes = LIST_PARSERS

    @extend_schema(
        operation_id="enrich_queue_add",
        summary="Queue up to 1,000 ISBNs",
        request=list_bodies(EnqueueRequestSerializer),
        responses={202: EnqueueAnswerSerializer},
    )
    def post(self, request: Request) -> Response:
        """Queues the ISBNs that are neither fresh nor remembered as unknown. Never spends a call.

        A worker later asks ISBNdb for the queued ISBNs of all callers in full batches. Each caller pays for its own.
        The body can also be a bare list of ISBNs, or a file; the other fields are then parameters of the address.
        """
        wanted = read_list(request, EnqueueRequestSerializer)
        accepted = enqueue(
            wanted["given"], priority=wanted["priority"], consumer=consumer_of(request).slug, source=wanted["source"]
        )
        queue = glance_at_queue(consumer_of(request))
        answer = {
            **AcceptedSerializer(accepted).data,
            "yours": YourPartSerializer(queue.yours).data,
            "depth": queue.depth,
            "next_flush_at": queue.next_flush_at,
            "warning": queue.warning,
            "notes": wanted["notes"],
            "api_calls": 0,
            "quota": QuotaStatusSerializer(queue.quota).data,
        }
        if wanted["return"] == "items":
            answer["items"] = IsbnItemSerializer(accepted.items, many=True).data
        return Response(answer, status=status.HTTP_202_ACCEPTED, headers=ratelimit_headers(queue.quota))

    @extend_schema(operation_id="enrich_queue", summary="The state of the queue", responses={200: QueueSerializer})
    def get(self, request: Request) -> Response:
        """How many ISBNs wait and since when, when the next batch is sent, and what prevents it."""
        queue = get_queue()
        answer = QueueSerializer(queue, context={"consumer": consumer_of(request).slug}).data
        return Response(answer, headers=ratelimit_headers(queue.quota))

"""The endpoint that tells a consumer how to verify the messages about its jobs."""

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from alexandria.alerts.serializers import JobWebhookSerializer
from alexandria.alerts.services import webhook_of
from alexandria.alerts.webhooks import secret_of
from quota.authentication import consumer_of


class JobWebhookView(APIView):
    @extend_schema(
        operation_id="job_webhook",
        summary="The secret that signs messages about your jobs",
        responses={200: JobWebhookSerializer},
    )
    def get(self, request: Request) -> Response:
        """What a receiver of `notify_url` needs to verify the signature. It is always the same for your consumer."""
        webhook = webhook_of(consumer_of(request))
        found = {"secret": secret_of(webhook), "host": webhook.host or None, "active": webhook.active}
        return Response(JobWebhookSerializer(found).data, headers={"Cache-Control": "no-store"})

"""Answers about webhooks."""

from typing import Any

from rest_framework import serializers

from quota.serializers import example


@example({"secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "host": "hooks.example", "active": True})
class JobWebhookSerializer(serializers.Serializer[Any]):
    secret = serializers.CharField(help_text="Signs all messages about your jobs. It does not change by itself.")
    host = serializers.CharField(
        allow_null=True,
        help_text="The host of the address that staff have set for your jobs. null: only jobs with a `notify_url` are "
        "reported.",
    )
    active = serializers.BooleanField(help_text="false: staff have switched off the messages about your jobs.")

"""Answer of POST /api/quota/reconcile."""

from typing import Any

from rest_framework import serializers

from enrichment.serializers.fields import SpendingAnswerSerializer
from quota.serializers import EXAMPLE_COUNTER, EXAMPLE_STATUS, IsbndbCounterSerializer, example


class NotReconciledSerializer(serializers.Serializer[Any]):
    api_calls = serializers.IntegerField(help_text="Calls that this request spent, including retries.")


@example(EXAMPLE_COUNTER | {"api_calls": 1})
class ReconciledSerializer(NotReconciledSerializer, IsbndbCounterSerializer):
    """Both counters at that moment."""

    def to_representation(self, instance: Any) -> dict[str, Any]:
        return {**IsbndbCounterSerializer(instance.counters).data, "api_calls": instance.api_calls}


@example(EXAMPLE_COUNTER | {"api_calls": 1, "duration_ms": 140, "quota": EXAMPLE_STATUS})
class ReconciliationAnswerSerializer(SpendingAnswerSerializer, ReconciledSerializer):
    """The same, with the quota."""

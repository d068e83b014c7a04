"""The filter of the journal by ISBN. The journal has no ISBNs; the time of the latest answer leads to the call."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from alexandria.development.sandbox.server import Sandbox
from enrichment.models import Edition, Miss
from enrichment.services.enrich import enrich_isbns
from quota.models import Call, Consumer
from tests.fixtures import known_isbns, unknown_isbns


def found(client: Client, isbn: str) -> Any:
    return list(client.get(reverse("admin:quota_call_changelist"), {"isbn": isbn}).context["cl"].result_list)


@pytest.mark.slow
def test_an_isbn_finds_the_calls_answered_before_it_was_stored(
    admin_client: Client, consumer: Consumer, sandbox: Sandbox
) -> None:
    [known, unknown] = [*known_isbns(1), *unknown_isbns(1)]
    enrich_isbns([known, unknown], consumer="reader")
    asked = Call.objects.get()
    answered_at = asked.send_at + timedelta(milliseconds=asked.latency_ms or 0, seconds=1)
    Edition.objects.update(synced_at=answered_at)
    Miss.objects.update(asked_at=answered_at)
    enrich_isbns(known_isbns(3)[2:], consumer="reader")
    Call.objects.exclude(pk=asked.pk).update(send_at=answered_at, dispatched_at=answered_at)
    assert found(admin_client, f"{known[:3]}-{known[3:]}") == [asked]
    assert found(admin_client, unknown) == [asked]
    assert found(admin_client, known_isbns(2)[1]) == []
    assert found(admin_client, "no ISBN") == []
    address = f"{reverse('admin:quota_call_changelist')}?isbn={known}"
    assert address in admin_client.get(reverse("admin:enrichment_edition_change", args=[known])).text

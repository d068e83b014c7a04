"""No lease ends while a question to ISBNdb is under way, with all its attempts."""

from datetime import timedelta

import pytest
from django.conf import settings

from enrichment.gateway.asking import MAX_ASK_TIME, MAX_RETRY_AFTER_SECONDS
from enrichment.gateway.questions import ATTEMPTS
from enrichment.gateway.settling import MAX_WAIT_SECONDS
from enrichment.jobs import claims
from enrichment.services import queue_batches
from quota.spending import MAX_PACE_WAIT

REQUEST = MAX_PACE_WAIT + timedelta(seconds=settings.ISBNDB_TIMEOUT_SECONDS)
"""The wait for the pace, and the request."""

QUESTION = ATTEMPTS * (
    REQUEST + timedelta(seconds=MAX_WAIT_SECONDS) + REQUEST + timedelta(seconds=MAX_RETRY_AFTER_SECONDS)
)
"""Each attempt gets an unclear answer: it waits for its turn to ask the counter, asks it, and pauses."""


@pytest.mark.parametrize("lease", [claims.LEASE, queue_batches.LEASE], ids=["job", "queue"])
def test_a_claim_outlives_a_question_with_all_its_attempts(lease: timedelta) -> None:
    assert lease > MAX_ASK_TIME >= QUESTION

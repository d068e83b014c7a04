"""A request that its thread sends late moves the next ones, so ISBNdb never sees too many in a second."""

import time
from unittest.mock import patch

import pytest

from alexandria.development.sandbox.server import Sandbox
from enrichment.gateway import connection
from enrichment.gateway.asking import ask_each
from enrichment.gateway.questions import key_usage
from quota.services.reservations import DispatchedCall
from quota.spending import spending

REQUESTS = 6
LATE_SECONDS = 0.15  # of the first request; three slots of the pace have 0.05 seconds more than a second

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("consumer", "late_requests")]


def ask_at_full_pace(settings, sandbox: Sandbox) -> int:
    """The most requests that the sandbox has seen in a second, when the first one goes out late."""
    settings.QUOTA_MAX_RPS = 3
    claim, late = DispatchedCall.claim, [LATE_SECONDS]

    def claim_and_be_late(call: DispatchedCall) -> None:
        claim(call)
        time.sleep(late.pop() if late else 0)

    with (
        patch.object(DispatchedCall, "claim", claim_and_be_late),
        spending(consumer="reader", operation="test", calls=REQUESTS) as spender,
    ):
        questions = (key_usage(spender) for _ in range(REQUESTS))
        assert all(exchanged.answer for exchanged in ask_each(lambda: next(questions, None)))
    return sandbox.most_in_a_second


def test_without_the_rule_four_requests_come_in_a_second_when_the_first_of_them_is_late(
    settings, sandbox: Sandbox
) -> None:
    with patch.object(connection, "wait_for_turn"):
        assert ask_at_full_pace(settings, sandbox) == 4


def test_no_second_sees_four_requests_when_the_first_of_them_is_late(settings, sandbox: Sandbox) -> None:
    assert ask_at_full_pace(settings, sandbox) == 3

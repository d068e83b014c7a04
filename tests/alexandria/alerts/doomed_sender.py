"""A sender for test_delivery.py: claims a message, prints "waiting" before or after sending it, and waits."""

import sys

import django

django.setup()

from alexandria.alerts import delivery  # noqa: E402 (after the set-up)
from tests.processes import wait_to_be_killed  # noqa: E402

if __name__ == "__main__":
    send = delivery._send
    after = sys.argv[1] == "after"
    delivery._send = lambda message: wait_to_be_killed(send(message) if after else None)
    delivery.deliver_due()

"""A sender for test_delivery.py: claims a message, prints "there" before or after sending it, and waits."""

import sys
import time
from typing import Any

import django

django.setup()

from alexandria.alerts import delivery  # noqa: E402 (after the set-up)


def wait_for_the_end(*_: Any) -> Any:
    print("there", flush=True)
    time.sleep(3600)


if __name__ == "__main__":
    send = delivery._send
    after = sys.argv[1] == "after"
    delivery._send = lambda message: wait_for_the_end(send(message) if after else None)
    delivery.deliver_due()

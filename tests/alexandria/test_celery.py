"""What a worker does with the messages that it takes from Redis."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from kombu import Connection, Message, Queue

from alexandria import celery as _  # noqa: F401 (it changes how kombu keeps messages)
from alexandria.development.embedded import servers
from alexandria.development.embedded.redis import Redis

pytestmark = pytest.mark.slow


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("end", ["ack", "reject", "requeue"])
def test_a_message_that_ends_while_redis_hangs_leaves_its_place_to_the_next_one(end: str, home: Path) -> None:
    servers.start(["redis"], home)
    pid = Redis(home).pid()
    assert pid is not None
    url = servers.redis_url(home).replace("unix://", "redis+socket://").replace("?db=", "?virtual_host=")
    came: list[Message] = []
    with (
        Connection(url, transport_options={"socket_timeout": 0.1}) as connection,
        connection.channel() as channel,
        connection.Consumer(
            [Queue("jobs")], channel=channel, accept=["json"], callbacks=[lambda body, message: came.append(message)]
        ) as consumer,
    ):
        consumer.qos(prefetch_count=1)
        producer = connection.Producer()
        for number in range(2):
            producer.publish({"number": number}, routing_key="jobs", declare=[Queue("jobs")])
        connection.drain_events(timeout=10)
        [message] = came
        with frozen(pid), pytest.raises(connection.connection_errors):
            message.ack() if end == "ack" else message.reject(requeue=end == "requeue")
        connection.drain_events(timeout=10)
    assert len(came) == 2

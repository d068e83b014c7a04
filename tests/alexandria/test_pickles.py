"""Who can write to Redis can make no program run: nothing that comes from it is ever unpickled."""

import base64
import json
import pickle
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from django.core.cache import cache
from django_redis import get_redis_connection
from redis import Redis
from rest_framework.test import APIClient

from alexandria.alerts.tasks import SENDER, deliver_alerts
from alexandria.celery import app
from tests import processes


class Program:
    """Creates the file when it is unpickled."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Callable[..., None], tuple[Path]]:
        return Path.touch, (self.proof,)


@pytest.fixture
def proof(tmp_path: Path) -> Path:
    """The file that exists once a pickle has been read."""
    return tmp_path / "proof"


@pytest.fixture
def pickled(proof: Path) -> bytes:
    return pickle.dumps(Program(proof))


@pytest.fixture
def redis() -> Redis:
    return get_redis_connection()


def message(pickled: bytes) -> bytes:
    """A message of Celery with a pickled body, as kombu stores it in Redis."""
    return json.dumps(
        {
            "body": base64.b64encode(pickled).decode(),
            "content-type": "application/x-python-serialize",
            "content-encoding": "binary",
            "headers": {"task": "harvest.tasks.run_cron", "id": "1", "lang": "py"},
            "properties": {
                "delivery_info": {"exchange": "", "routing_key": "celery"},
                "delivery_tag": "1",
                "delivery_mode": 2,
                "body_encoding": "base64",
            },
        }
    ).encode()


def test_to_unpickle_is_to_run_a_program(pickled: bytes, proof: Path) -> None:
    pickle.loads(pickled)  # noqa: S301
    assert proof.exists()


def test_no_pickle_under_a_key_of_the_cache_runs(api: APIClient, pickled: bytes, proof: Path, redis: Redis) -> None:
    def use_all() -> None:
        """Uses every key of the cache that there is, so that its name is in Redis, and reads it."""
        assert api.get("/api/quota/status").status_code == 200
        assert api.get("/healthz").json()["checks"]["redis"]["status"] == "ok"
        deliver_alerts()

    cache.set("health", 1)
    cache.set(SENDER, 1)
    use_all()
    names = list(redis.scan_iter(cache.make_key("*")))
    assert {cache.make_key(name).encode() for name in ("health", SENDER)} < set(names), "and the counter of requests"
    for name in names:
        redis.set(name, pickled)
    use_all()
    for name in names:
        with suppress(ValueError):
            cache.get(name.decode().rpartition(":1:")[2])
    redis.delete(*names)
    assert not proof.exists()


def test_no_pickle_in_a_list_of_unacknowledged_messages_runs(pickled: bytes, proof: Path, redis: Redis) -> None:
    with app.connection_for_read() as broker:
        redis.hset("unacked", "1", pickled)
        redis.zadd("unacked_index", {"1": 1})
        with pytest.raises(ValueError, match="Expecting value"):
            broker.default_channel.qos.restore_visible()  # type: ignore[attr-defined]
    assert not proof.exists()


@pytest.mark.slow
def test_a_worker_runs_no_pickle_of_its_queue_or_of_a_remote_command(
    transactional_db, pickled: bytes, proof: Path, redis: Redis, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    redis.lpush("celery", message(pickled))
    worker = processes.start("worker", log, WORKER_CONCURRENCY="1")
    try:
        processes.wait_until(lambda: "ContentDisallowed" in log.read_text(), worker, log=log)
        commands = f"/{redis.get_connection_kwargs()['db']}.celery.pidbox"
        assert redis.publish(commands, pickled) == redis.publish(commands, message(pickled)) == 1
        app.send_task("a task that does not exist")
        processes.wait_until(lambda: "a task that does not exist" in log.read_text(), worker, log=log)
        redis.lpush("celery", pickled)
        processes.wait_until(lambda: worker.poll() is not None)
        assert "JSONDecodeError" in log.read_text(), "what is no message ends the worker"
    finally:
        if worker.poll() is None:
            processes.kill(worker)
    assert not proof.exists()

import re
from collections.abc import Iterator
from typing import Any

import pytest

from alexandria.alerts import snapshot
from alexandria.alerts.models import Webhook
from alexandria.env import BASE_DIR
from tests.alexandria.alerts.receiver import Receiver, receiving
from tests.fixtures import At, at

__all__ = ["at", "mailing", "receiver", "verify", "webhook", "workers_there"]


@pytest.fixture
def workers_there(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """The workers of each queue. test_with_workers.py uses real workers."""
    queues = {"celery": ["celery@here"], "jobs": ["jobs@here"]}
    monkeypatch.setattr(snapshot, "consumed_queues", lambda *, expected: queues)
    return queues


@pytest.fixture
def receiver(settings) -> Iterator[Receiver]:
    settings.ALERT_WEBHOOKS_TO_PRIVATE = True
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def verify() -> Any:
    """The function of docs/alerts.md for receivers."""
    [code] = re.findall(r"```python\n(.*?)```", (BASE_DIR / "docs" / "alerts.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102
    return names["verify"]


@pytest.fixture
def webhook(receiver: Receiver, at: At) -> Webhook:
    return Webhook.objects.create(name="chat", url=receiver.url)


@pytest.fixture
def mailing(settings) -> None:
    """E-mail is on. Django puts sent messages into `mailoutbox`."""
    settings.ALERT_EMAIL_TO = ["ops@books.example", "night@books.example"]
    settings.ALERT_EMAIL_FROM = "alexandria@books.example"
    settings.SERVICE_NAME = "Staging"

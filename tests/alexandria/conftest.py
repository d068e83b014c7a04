import logging
from io import StringIO

import pytest

from tests.fixtures import api, api_past_the_door, consumer, key, sandbox, set_clock

__all__ = ["api", "api_past_the_door", "consumer", "key", "sandbox", "set_clock"]


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> StringIO:
    """What the process's log handler writes."""
    handlers = [handler for handler in logging.getLogger().handlers if type(handler) is logging.StreamHandler]
    stream = StringIO()
    monkeypatch.setattr(handlers[0], "stream", stream)
    return stream

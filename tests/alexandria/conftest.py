import logging
import shutil
import tempfile
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest

from alexandria.development.embedded import servers
from tests.fixtures import api, api_without_key_check, at, consumer, key, no_waits, sandbox, set_clock

__all__ = ["api", "api_without_key_check", "at", "consumer", "key", "no_waits", "sandbox", "set_clock"]

# A machine where nothing is configured: no servers of this test run, no key for ISBNdb.
NOTHING_SET = {"DATABASE_URL": "", "REDIS_URL": "", "ISBNDB_API_KEY": "", "SECRET_KEY": "", "DEBUG": "on"}


@pytest.fixture
def home() -> Iterator[Path]:
    """The path of a new data folder for embedded services. At the end they are stopped."""
    top = Path(tempfile.mkdtemp(prefix="alx-"))
    yield top / "data"
    servers.stop(folder=top / "data")
    shutil.rmtree(top)


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> StringIO:
    """What the process's log handler writes."""
    handlers = [handler for handler in logging.getLogger().handlers if type(handler) is logging.StreamHandler]
    stream = StringIO()
    monkeypatch.setattr(handlers[0], "stream", stream)
    return stream

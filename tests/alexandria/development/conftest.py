from collections.abc import Iterator

import httpx2
import pytest

from alexandria.development.sandbox import Sandbox
from tests.alexandria.development.clients import connect


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """A sandbox alone, without the settings of the product."""
    with Sandbox(max_rps=None) as sandbox:
        yield sandbox


@pytest.fixture
def client(sandbox: Sandbox) -> Iterator[httpx2.Client]:
    with connect(sandbox) as client:
        yield client

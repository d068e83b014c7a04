from importlib import import_module

import pytest
from django.apps import apps

from tests.fixtures import SetClock, api, api_past_the_door, consumer, key, sandbox, set_clock

__all__ = ["api", "api_past_the_door", "consumer", "key", "sandbox", "set_clock"]


@pytest.fixture
def defaults(set_clock: SetClock) -> None:
    """The consumers and schedules that the migration makes; a test's end empties every table."""
    import_module("harvest.migrations.0002_defaults").create(apps, None)

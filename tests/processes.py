"""Real processes beside the test's own, on the test's own database."""

import os
from urllib.parse import urlsplit

from django.conf import settings
from django.db import connection

HANDED_DOWN = (
    *("ISBNDB_BASE_URL", "ISBNDB_API_KEY", "ISBNDB_BATCH_SIZE", "ISBNDB_TIMEOUT_SECONDS"),
    *("QUOTA_DAILY_LIMIT", "QUOTA_SAFETY_BUFFER", "QUOTA_MAX_RPS", "QUOTA_ENFORCEMENT"),
    "API_REQUESTS_PER_MINUTE",
)


def environment() -> dict[str, str]:
    """What a process needs to work on the test's database with the settings that the test has set."""
    url = urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{connection.settings_dict['NAME']}")
    return os.environ | {"DATABASE_URL": url.geturl()} | {name: str(getattr(settings, name)) for name in HANDED_DOWN}

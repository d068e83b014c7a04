"""Sets Django up for a benchmark, on a database of its own."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import django

from alexandria.development.embedded import servers

# As in production: with DEBUG on, Django keeps a list of all queries.
os.environ |= {
    "DJANGO_SETTINGS_MODULE": "alexandria.settings",
    "DEBUG": "off",
    "SECRET_KEY": "only-for-the-benchmark-" * 3,
    "ALLOWED_HOSTS": "localhost",
}
servers.start_unless_configured()
os.environ.setdefault("DATABASE_URL", servers.database_url())  # tests/processes.py passes it on
django.setup()


@contextmanager
def scratch_database() -> Iterator[None]:
    """A migrated, empty database for this process, dropped in the end."""
    from django.db import connection

    real_name = connection.settings_dict["NAME"]
    connection.settings_dict["TEST"]["NAME"] = f"bench_{os.getpid()}"
    connection.creation.create_test_db(verbosity=0, autoclobber=True, serialize=False)
    try:
        yield
    finally:
        connection.creation.destroy_test_db(real_name, verbosity=0)

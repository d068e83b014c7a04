#!/usr/bin/env python
"""Django's command line, with the embedded PostgreSQL and Redis started where no other is configured."""

import os
import sys

# These either work without a database or drive the embedded one themselves.
WITHOUT_DATABASE = {"embedded", "isbndb_sandbox", "run", "demo", "smoke", "help", "--help", "--version", "version"}


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "alexandria.settings")
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line

    try:
        if len(sys.argv) > 1 and sys.argv[1] not in WITHOUT_DATABASE:
            from alexandria import embedded

            embedded.start_unless_configured()
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        sys.exit(f"Alexandria can't start: {error}")


if __name__ == "__main__":
    main()

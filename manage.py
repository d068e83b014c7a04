#!/usr/bin/env python
"""Django's command line, with the embedded PostgreSQL and Redis started where no other is configured."""

import os
import sys

# These either work without a database or drive the embedded one themselves.
WITHOUT_DATABASE = {"embedded", "isbndb_sandbox", "run", "demo", "smoke", "help", "--help", "--version", "version"}


def needs_database(command: str, options: list[str]) -> bool:
    """A bulk harvest through a server works on that server's database alone."""
    through_a_server = command == "bulk_author_harvest" and any(option.startswith("--server") for option in options)
    return command not in WITHOUT_DATABASE and not through_a_server


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "alexandria.settings")
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line

    try:
        if len(sys.argv) > 1 and needs_database(sys.argv[1], sys.argv[2:]):
            from alexandria import embedded

            embedded.start_unless_configured()
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        sys.exit(f"Alexandria can't start: {error}")


if __name__ == "__main__":
    main()

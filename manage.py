#!/usr/bin/env python
"""Django's command line. Starts the embedded PostgreSQL and Redis when no others are configured."""

import os
import sys

# These commands work without a database, or start the embedded one themselves.
WITHOUT_DATABASE = {
    "embedded",
    "isbndb_sandbox",
    "run",
    "demo",
    "smoke",
    "prometheus_rules",
    "help",
    "--help",
    "version",
    "--version",
}


def needs_database(command: str, options: list[str]) -> bool:
    """A bulk harvest with `--server` uses only the database of that server."""
    through_a_server = command == "bulk_author_harvest" and any(option.startswith("--server") for option in options)
    return command not in WITHOUT_DATABASE and not through_a_server


def main() -> None:
    """Runs the command. When the reader of its output is gone, it ends as a program that SIGPIPE ends: with 141."""
    try:
        try:
            run()
        finally:
            sys.stdout.flush()  # here, and not when Python ends, where the error would be shown
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


def run() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "alexandria.settings")
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line
    from django.db import InterfaceError, OperationalError, ProgrammingError
    from psycopg.errors import UndefinedFunction, UndefinedTable

    from alexandria.development.embedded import servers

    command = sys.argv[1] if len(sys.argv) > 1 else "help"
    try:
        if command == "serve":  # it does not load the apps: the program that it becomes does
            from alexandria.management.commands.serve import Command

            Command().run_from_argv(sys.argv)
        if needs_database(command, sys.argv[2:]) and (started := servers.start_unless_configured()):
            unset = " and ".join(servers.VARIABLES[name] for name in started)
            unset += " is not set" if len(started) == 1 else " are not set"
            sys.stderr.write(
                f"Started the embedded {' and '.join(started)} in {servers.data_dir()}: {unset}. "
                "`manage.py embedded down` stops them.\n"
            )
        execute_from_command_line(sys.argv)
    except (ImproperlyConfigured, servers.EmbeddedError) as error:
        sys.exit(f"Alexandria can't start: {error}")
    except ProgrammingError as error:
        if command == "migrate" or not isinstance(error.__cause__, UndefinedTable | UndefinedFunction):
            raise
        sys.exit("The database has no tables yet. Run manage.py migrate.")
    except (OperationalError, InterfaceError) as error:
        if "--traceback" in sys.argv:
            raise
        sys.exit(f"The database does not answer, or refuses (DATABASE_URL): {str(error).strip()}")
    except KeyboardInterrupt:
        sys.exit(130)  # the exit code of a shell, without a traceback


if __name__ == "__main__":
    main()

"""`manage.py embedded up|down|status`: starts, stops or shows the embedded PostgreSQL and Redis."""

import json
import os
from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandError, CommandParser

from alexandria.common.commands import ToolCommand
from alexandria.development import stack
from alexandria.development.embedded import servers
from alexandria.development.embedded.files import try_lock

NOT_RUNNING = 3


class Command(ToolCommand):
    help = """Starts, stops or shows the embedded PostgreSQL and Redis (development only).

exit codes:
  0  done; for status: both services run
  1  a service could not be started or stopped, or wrong arguments
  3  for status: at least one service does not run"""
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("action", choices=["up", "down", "status"])
        parser.add_argument("--json", action="store_true", help="print the status as JSON")

    def handle(self, *args: Any, action: str, json: bool, **options: Any) -> None:
        try:
            if action == "up":
                servers.start()
            elif action == "down":
                self._refuse_while_a_stack_runs()
                servers.stop()
        except servers.EmbeddedError as error:
            raise CommandError(str(error)) from error
        services = servers.status()
        self._show(services, as_json=json)
        if action == "status" and not all(service.running for service in services):
            raise SystemExit(NOT_RUNNING)

    def _refuse_while_a_stack_runs(self) -> None:
        path = servers.data_dir() / stack.LOCK
        if not path.exists():
            return
        lock = try_lock(path)
        if lock is None:
            raise CommandError("`manage.py run` uses the services. Stop it with Ctrl-C first.")
        os.close(lock)

    def _show(self, services: list[servers.Status], *, as_json: bool) -> None:
        if as_json:
            self.stdout.write(json.dumps([asdict(service) for service in services], indent=2))
            return
        for service in services:
            state = "running" if service.running else "stopped"
            self.stdout.write(f"{service.service:9} {state}  {service.address}  log: {service.log}")
        self.stdout.write(f"The password of postgres is in {servers.data_dir() / 'password'}.")

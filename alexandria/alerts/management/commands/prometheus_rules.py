from typing import Any

from alexandria.alerts.prometheus import rules_file
from alexandria.common.commands import ToolCommand


class Command(ToolCommand):
    help = "Prints the alert rules for Prometheus (YAML), with the thresholds of the settings."

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(rules_file(), ending="")

"""docs/prometheus-rules.yml and the tables of docs/alerts.md say the same as the rules in the code."""

from io import StringIO

import pytest
from django.core.management import call_command

from alexandria.alerts.models import Severity
from alexandria.alerts.prometheus import PROMETHEUS_RULES, rules_file
from alexandria.alerts.rules import RULES, Rule
from alexandria.env import BASE_DIR

DOCS = BASE_DIR / "docs"


@pytest.mark.slow
def test_the_file_in_the_docs_is_the_one_that_the_command_prints() -> None:
    out = StringIO()
    call_command("prometheus_rules", stdout=out)
    assert (DOCS / "prometheus-rules.yml").read_text() == out.getvalue(), "run manage.py prometheus_rules"


def test_the_thresholds_of_the_settings_reach_both_engines(settings) -> None:
    settings.ALERT_ERROR_PERCENT, settings.QUOTA_DRIFT_ALERT, settings.ALERT_LEASES_EXPIRED = 41, 42, 43
    text = rules_file()
    assert all(f" >= {threshold}\n" in text for threshold in (41, 42, 43))


def test_prometheus_has_every_rule_of_the_built_in_engine_that_metrics_can_express() -> None:
    missing = {rule.name for rule in RULES if not rule.expr and rule.severity != Severity.INFO}
    assert missing == {"workers", "late_crons"}
    assert all(rule.check for rule in RULES)
    assert all(rule.expr for rule in PROMETHEUS_RULES)


def row(rule: Rule) -> str:
    setting = f"`{rule.threshold}`" if isinstance(rule.threshold, str) else ""
    alert = f"`{rule.alert_name}`" if rule.expr else ""
    when = rule.filled_in(rule.opens_when)
    cells = (
        [f"`{rule.name}`", rule.severity.value, when, setting, alert]
        if rule.check
        else [alert, rule.severity.value, when]
    )
    return "".join(f"| {cell} " if cell else "| " for cell in cells) + "|"


@pytest.mark.parametrize("rules", [RULES, PROMETHEUS_RULES], ids=["built in", "only in Prometheus"])
def test_the_docs_list_every_rule_as_it_is(rules: tuple[Rule, ...]) -> None:
    rows = "\n".join(map(row, rules))
    assert f"|---|\n{rows}\n\n" in (DOCS / "alerts.md").read_text(), f"docs/alerts.md needs these rows:\n{rows}"

import re
from pathlib import Path

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql"
BEFORE = (SQL / "0001_functions.sql").read_text()

DROP = """
DROP FUNCTION
    quota_reconcile, quota_apply_limits, quota_correct, quota_shrink, quota_slow_down, quota_open, quota_explain,
    quota_standing, quota_enforces;
"""
REPLACED = ("quota_explain", "quota_reserve", "quota_dispatch", "quota_extend", "quota_slow_down")


def as_before(name: str) -> str:
    [function] = re.findall(rf"^CREATE FUNCTION ({name}\(.*?^(?:END )?\$\$;)$", BEFORE, re.DOTALL | re.MULTILINE)
    return f"CREATE OR REPLACE FUNCTION {function}"


class Migration(migrations.Migration):
    dependencies = [("quota", "0003_switches_and_corrections")]
    operations = [migrations.RunSQL((SQL / "0002_functions.sql").read_text(), DROP + "".join(map(as_before, REPLACED)))]

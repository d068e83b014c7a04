from pathlib import Path

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql" / "0001_functions.sql"

DROP = """
DROP FUNCTION
    quota_close_day, quota_slow_down, quota_increment, quota_settle, quota_extend, quota_reserve, quota_dispatch,
    quota_expire, quota_close, quota_post, quota_explain, quota_broken_limit, quota_slot, quota_last_slot, quota_pace,
    quota_midnight_guard, quota_midnight, quota_day, quota_now;
DROP TYPE quota_decision;
"""


class Migration(migrations.Migration):
    dependencies = [("quota", "0001_initial")]
    operations = [migrations.RunSQL(SQL.read_text(), DROP)]

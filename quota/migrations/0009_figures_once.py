"""It ran an earlier version of quota/sql/functions.sql. 0010_pauses runs the file now, which needs today's tables."""

from typing import Any

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("quota", "0008_turns"),
    ]

    operations: list[Any] = []

from pathlib import Path

from django.db import migrations

FUNCTIONS = Path(__file__).resolve().parent.parent / "sql" / "functions.sql"
SHA256_OF_FUNCTIONS = "904f65f57b46766d4479ff0ebaece492840980429e11e172ae8175c2f0fb599e"
"""Of the file that this migration runs; tests/quota/test_functions.py compares the newest one with the file."""


class Migration(migrations.Migration):
    dependencies = [
        ("quota", "0010_pauses"),
    ]

    operations = [migrations.RunSQL(FUNCTIONS.read_text())]

from pathlib import Path

from django.db import migrations

FUNCTIONS = Path(__file__).resolve().parent.parent / "sql" / "functions.sql"
SHA256_OF_FUNCTIONS = "d33ee6b61a3ccb6f16b8b44dc34a9c9ea62e020014f20fdff7ca8e89a07f872c"
"""Of the file that this migration runs; tests/quota/test_functions.py compares the newest one with the file."""


class Migration(migrations.Migration):
    dependencies = [("quota", "0001_initial")]
    operations = [migrations.RunSQL(FUNCTIONS.read_text())]

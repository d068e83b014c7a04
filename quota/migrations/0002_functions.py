from pathlib import Path

from django.db import migrations

FUNCTIONS = Path(__file__).resolve().parent.parent / "sql" / "functions.sql"
SHA256_OF_FUNCTIONS = "e1832a8183d5b8faf28df66aa68f3830dce0e8750c79d6f9787499693d2a19b0"
"""Of the file that this migration runs; tests/quota/test_functions.py compares the newest one with the file."""


class Migration(migrations.Migration):
    dependencies = [("quota", "0001_initial")]
    operations = [migrations.RunSQL(FUNCTIONS.read_text())]

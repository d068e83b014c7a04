from pathlib import Path

from django.db import migrations

FUNCTIONS = Path(__file__).resolve().parent.parent / "sql" / "functions.sql"
SHA256_OF_FUNCTIONS = "355e4ec1542f8478a71eac012d04324bc497eb1d4b802684b66e242384756d37"
"""Of the file that this migration runs; tests/quota/test_functions.py compares the newest one with the file."""


class Migration(migrations.Migration):
    dependencies = [
        ("quota", "0008_turns"),
    ]

    operations = [
        migrations.RunSQL(FUNCTIONS.read_text()),
    ]

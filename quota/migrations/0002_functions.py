from pathlib import Path

from django.db import migrations

FUNCTIONS = Path(__file__).resolve().parent.parent / "sql" / "functions.sql"


class Migration(migrations.Migration):
    dependencies = [("quota", "0001_initial")]
    operations = [migrations.RunSQL(FUNCTIONS.read_text())]

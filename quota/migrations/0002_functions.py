from django.db import migrations


class Migration(migrations.Migration):
    """Ran quota/sql/functions.sql. A later migration runs it now, once the tables are today's."""

    dependencies = [("quota", "0001_initial")]
    operations: list[migrations.RunSQL] = []

from django.db import migrations


def make_staff(apps, schema_editor):
    """Who pays for what people ask for in the admin: like an API client, it leaves no calls free for others."""
    apps.get_model("quota", "Consumer").objects.get_or_create(slug="staff", defaults={"kind": "api"})


class Migration(migrations.Migration):
    dependencies = [("enrichment", "0001_initial"), ("quota", "0002_functions")]
    operations = [migrations.RunPython(make_staff, migrations.RunPython.noop)]

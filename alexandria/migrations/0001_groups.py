"""Creates the groups of staff with their permissions. People add the members, and may change the groups later."""

from django.db import migrations

from alexandria.groups import grant

VIEWED = {
    "quota": [
        "adjustment",
        "call",
        "consumer",
        "consumerkey",
        "consumerusage",
        "dailyledger",
        "pricemeasurement",
        "reconciliation",
        "refusal",
        "reservation",
        "switches",
    ],
    "enrichment": ["author", "authormiss", "edition", "feedfollowing", "job", "miss", "queuedisbn", "work"],
    "harvest": ["cronstate", "harvestrun"],
    "alerts": ["alert", "delivery"],
    "admin": ["logentry"],
    "django_celery_beat": ["clockedschedule", "crontabschedule", "intervalschedule", "periodictask", "solarschedule"],
}
PERMISSIONS = {
    "viewers": [f"{app}.view_{model}" for app, models in VIEWED.items() for model in models],
    "operators": [
        "alerts.retry_delivery",
        "alerts.test_webhook",
        "alerts.view_webhook",
        "enrichment.add_job",
        "enrichment.change_job",
        "enrichment.change_queuedisbn",
        "enrichment.delete_queuedisbn",
        "enrichment.refresh_edition",
        "harvest.change_cronstate",
        "quota.release_reservation",
    ],
    "managers": [
        "alerts.add_webhook",
        "alerts.change_webhook",
        "alerts.delete_webhook",
        "django_celery_beat.change_periodictask",
        "quota.add_adjustment",
        "quota.add_consumer",
        "quota.add_consumerkey",
        "quota.change_consumer",
        "quota.change_consumerkey",
        "quota.change_switches",
        "quota.reopen_dailyledger",
    ],
}


def make_groups(apps, schema_editor):
    grant(apps, PERMISSIONS)


class Migration(migrations.Migration):
    dependencies = [
        ("admin", "0003_logentry_add_action_flag_choices"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
        ("quota", "0001_initial"),
        ("enrichment", "0001_initial"),
        ("harvest", "0001_initial"),
        ("alerts", "0001_initial"),
        ("django_celery_beat", "0019_alter_periodictasks_options"),
    ]
    operations = [migrations.RunPython(make_groups, migrations.RunPython.noop)]

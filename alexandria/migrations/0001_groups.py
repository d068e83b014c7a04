"""The groups of staff, and what each may do. Members are added by hand; a group that was changed by hand stays so."""

from django.db import migrations

from alexandria.groups import grant

LOOKED_AT = {
    "quota": [
        *("dailyledger", "consumerusage", "reservation", "call", "refusal", "consumer", "consumerkey", "switches"),
        *("adjustment", "reconciliation"),
    ],
    "enrichment": ["edition", "work", "author", "miss", "queuedisbn", "job"],
    "harvest": ["harvestrun", "cronstate", "bulkharvest", "bulkauthor"],
    "alerts": ["alert", "delivery"],
    "admin": ["logentry"],
    "django_celery_beat": ["periodictask", "intervalschedule", "crontabschedule", "solarschedule", "clockedschedule"],
}
PERMISSIONS = {
    "viewers": [f"{app}.view_{model}" for app, models in LOOKED_AT.items() for model in models],
    "operators": [
        *(
            "enrichment.change_job",
            "enrichment.change_queuedisbn",
            "enrichment.delete_queuedisbn",
            "harvest.change_cronstate",
        ),
        *("quota.release_reservation", "enrichment.add_job", "enrichment.refresh_edition"),
        *("alerts.view_webhook", "alerts.test_webhook", "alerts.retry_delivery"),
    ],
    "managers": [
        *("quota.add_consumer", "quota.change_consumer", "quota.change_switches", "quota.add_adjustment"),
        *("quota.add_consumerkey", "quota.change_consumerkey", "django_celery_beat.change_periodictask"),
        *("alerts.add_webhook", "alerts.change_webhook", "alerts.delete_webhook"),
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

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="BulkHarvest",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("key", models.CharField(editable=False, help_text="Identifies the list of authors.", max_length=64)),
                ("label", models.CharField(help_text="Source of the list.", max_length=200)),
                (
                    "max_pages",
                    models.PositiveSmallIntegerField(help_text="Maximum number of pages of 1,000 books per author."),
                ),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("running", "running"),
                            ("stopped", "stopped, can be resumed"),
                            ("finished", "finished"),
                            ("abandoned", "replaced by a restart"),
                        ],
                        max_length=9,
                    ),
                ),
                ("reason", models.TextField(blank=True, help_text="Why it stopped.")),
                ("started_at", models.DateTimeField(auto_now_add=True)),
                ("ended_at", models.DateTimeField(blank=True, null=True)),
                (
                    "holder",
                    models.UUIDField(
                        blank=True, editable=False, help_text="Identifies the working process.", null=True
                    ),
                ),
                (
                    "host",
                    models.CharField(
                        blank=True, help_text="The machine that works on it, or did last.", max_length=255
                    ),
                ),
                ("pid", models.PositiveIntegerField(blank=True, null=True, verbose_name="process")),
                (
                    "lease_until",
                    models.DateTimeField(blank=True, help_text="No other process may take it before.", null=True),
                ),
            ],
            options={
                "verbose_name": "bulk author harvest",
                "ordering": ["-id"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(
                                ("ended_at", None),
                                ("holder__isnull", False),
                                ("lease_until__isnull", False),
                                ("state", "running"),
                            ),
                            models.Q(
                                ("ended_at__isnull", False),
                                ("holder", None),
                                ("state__in", ["stopped", "finished", "abandoned"]),
                            ),
                            _connector="OR",
                        ),
                        name="harvest_bulkharvest_running_is_held",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("max_pages__gte", 1), ("max_pages__lte", 10)),
                        name="harvest_bulkharvest_max_pages_1_to_10",
                    ),
                    models.UniqueConstraint(
                        condition=models.Q(("state__in", ["running", "stopped"])),
                        fields=("key",),
                        name="harvest_bulkharvest_list_once",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="HarvestRun",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("cron", models.CharField(max_length=64)),
                ("started_at", models.DateTimeField()),
                ("ended_at", models.DateTimeField(blank=True, null=True)),
                (
                    "outcome",
                    models.CharField(
                        choices=[
                            ("running", "running"),
                            ("succeeded", "succeeded"),
                            ("idle", "nothing to do"),
                            ("skipped", "skipped"),
                            ("stopped", "ended early by the quota"),
                            ("failed", "failed"),
                        ],
                        default="running",
                        max_length=9,
                    ),
                ),
                ("reason", models.TextField(blank=True, help_text="Why it was skipped, ended early or failed.")),
                ("calls", models.PositiveIntegerField(default=0, help_text="Calls spent, including retries.")),
                (
                    "books",
                    models.PositiveIntegerField(default=0, help_text="Editions stored: new, changed or unchanged."),
                ),
                ("cursor", models.JSONField(blank=True, default=dict, help_text="Where the next run continues.")),
                (
                    "repeats",
                    models.PositiveIntegerField(
                        default=0, help_text="Further consecutive runs that did nothing for the same reason."
                    ),
                ),
            ],
            options={
                "ordering": ["-id"],
                "indexes": [models.Index(fields=["cron", "-id"], name="harvest_harvestrun_by_cron")],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            ("outcome__in", ["running", "succeeded", "idle", "skipped", "stopped", "failed"])
                        ),
                        name="harvest_harvestrun_outcome_known",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("ended_at", None), ("outcome", "running")),
                            models.Q(models.Q(("outcome", "running"), _negated=True), ("ended_at__isnull", False)),
                            _connector="OR",
                        ),
                        name="harvest_harvestrun_ended_has_time",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("repeats", 0),
                            models.Q(("books", 0), ("calls", 0), ("outcome__in", ["idle", "skipped"])),
                            _connector="OR",
                        ),
                        name="harvest_harvestrun_only_nothing_repeats",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="BulkAuthor",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("position", models.PositiveIntegerField(help_text="Position in the list, from 1.")),
                ("name", models.TextField()),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("pending", "pending"),
                            ("done", "done"),
                            ("unknown", "unknown to ISBNdb"),
                            ("cut", "more books than requested or available"),
                            ("failed", "failed"),
                        ],
                        default="pending",
                        max_length=7,
                    ),
                ),
                ("next_page", models.PositiveSmallIntegerField(default=1, help_text="The next page of 1,000 books.")),
                (
                    "books",
                    models.PositiveIntegerField(default=0, help_text="Books of the author that ISBNdb returned."),
                ),
                (
                    "enriched",
                    models.PositiveIntegerField(default=0, help_text="Books of these that this harvest stored."),
                ),
                ("calls", models.PositiveIntegerField(default=0)),
                ("reason", models.TextField(blank=True, help_text="Why it failed or was cut.")),
                ("updated_at", models.DateTimeField(blank=True, help_text="When the last page ended.", null=True)),
                (
                    "harvest",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="authors",
                        to="harvest.bulkharvest",
                    ),
                ),
            ],
            options={
                "ordering": ["harvest", "position"],
                "constraints": [
                    models.UniqueConstraint(fields=("harvest", "position"), name="harvest_bulkauthor_position_once"),
                    models.CheckConstraint(
                        condition=models.Q(("state__in", ["pending", "done", "unknown", "cut", "failed"])),
                        name="harvest_bulkauthor_state_known",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("next_page__gte", 1)), name="harvest_bulkauthor_next_page_from_1"
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="CronState",
            fields=[
                ("name", models.CharField(max_length=64, primary_key=True, serialize=False)),
                (
                    "last_tick_at",
                    models.DateTimeField(
                        blank=True,
                        help_text="The last moment of its schedule that has run. It does not run again.",
                        null=True,
                    ),
                ),
                ("cursor", models.JSONField(blank=True, default=dict, help_text="Where the next run continues.")),
                (
                    "lease_until",
                    models.DateTimeField(
                        blank=True,
                        help_text="The run renews it. When it is over, the worker counts as dead.",
                        null=True,
                    ),
                ),
                (
                    "run",
                    models.OneToOneField(
                        blank=True,
                        help_text="In progress now.",
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="state",
                        to="harvest.harvestrun",
                    ),
                ),
            ],
            options={
                "ordering": ["name"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("lease_until", None), ("run", None)),
                            models.Q(("lease_until__isnull", False), ("run__isnull", False)),
                            _connector="OR",
                        ),
                        name="harvest_cronstate_run_has_lease",
                    )
                ],
            },
        ),
    ]

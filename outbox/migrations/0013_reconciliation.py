import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("django_outbox", "0012_acknowledgements"),
    ]

    operations = [
        migrations.CreateModel(
            name="Reconciliation",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("group", models.CharField(max_length=100, unique=True)),
                ("closed", models.BigIntegerField()),
                ("stated", models.BigIntegerField()),
                ("mark", models.BigIntegerField(default=0)),
                ("mark_xid", models.BigIntegerField(default=0)),
                ("snapshot", models.TextField(blank=True)),
                ("position", models.BigIntegerField(default=0)),
                ("system", models.CharField(blank=True, max_length=20)),
                ("handles", models.JSONField(default=list)),
                ("answered_at", models.DateTimeField(null=True)),
                ("asked_at", models.DateTimeField(null=True)),
                ("next_at", models.DateTimeField(default=django.utils.timezone.now)),
            ],
            options={
                "verbose_name": "reconciliation",
                "verbose_name_plural": "reconciliations",
                "default_permissions": ("view",),
            },
        ),
        migrations.CreateModel(
            name="Break",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("group", models.CharField(max_length=100, verbose_name="group")),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("missing", "missing there"),
                            ("unknown", "unknown here"),
                            ("unsettled", "unsettled"),
                            ("twice", "counted twice"),
                        ],
                        max_length=10,
                        verbose_name="kind",
                    ),
                ),
                ("message_id", models.CharField(max_length=255, verbose_name="message id")),
                ("type", models.CharField(max_length=255, verbose_name="type")),
                ("start", models.BigIntegerField(verbose_name="time of the id")),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("in_transit", "in transit"),
                            ("open", "open"),
                            ("repaired", "repaired"),
                            ("accepted", "accepted"),
                        ],
                        default="in_transit",
                        max_length=10,
                        verbose_name="state",
                    ),
                ),
                ("there", models.CharField(blank=True, max_length=20, verbose_name="state there")),
                (
                    "found",
                    models.DateTimeField(default=django.utils.timezone.now, verbose_name="found"),
                ),
                (
                    "changed",
                    models.DateTimeField(default=django.utils.timezone.now, verbose_name="changed"),
                ),
                ("replayed_at", models.DateTimeField(null=True, verbose_name="published again")),
                ("reason", models.CharField(blank=True, max_length=500, verbose_name="reason")),
                ("by", models.CharField(blank=True, max_length=255, verbose_name="by")),
            ],
            options={
                "verbose_name": "break",
                "verbose_name_plural": "breaks",
                "permissions": (
                    ("repair_break", "Can have breaks repaired"),
                    ("accept_break", "Can accept breaks"),
                ),
                "default_permissions": ("view",),
                "indexes": [
                    models.Index(
                        condition=models.Q(("state__in", ["in_transit", "open"])),
                        fields=["group", "start"],
                        name="outbox_break_open",
                    ),
                    models.Index(
                        condition=models.Q(("state__in", ["repaired", "accepted"])),
                        fields=["changed"],
                        name="outbox_break_over",
                    ),
                ],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("group", "message_id", "kind"), name="outbox_break"
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="BucketTotal",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("group", models.CharField(max_length=100)),
                ("start", models.BigIntegerField()),
                ("type", models.CharField(max_length=255)),
                ("revision", models.PositiveIntegerField(default=1)),
                ("count", models.PositiveBigIntegerField()),
                ("digest", models.CharField(max_length=64)),
                ("made", models.DateTimeField(default=django.utils.timezone.now)),
            ],
            options={
                "verbose_name": "total of a bucket",
                "verbose_name_plural": "totals of buckets",
                "default_permissions": ("view",),
                "indexes": [models.Index(fields=["made"], name="outbox_bucket_made")],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("group", "start", "type", "revision"), name="outbox_bucket_once"
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="GroupTopic",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("group", models.CharField(max_length=100)),
                ("topic", models.CharField(max_length=255)),
                ("begins", models.BigIntegerField()),
                ("ends", models.BigIntegerField(null=True)),
            ],
            options={
                "verbose_name": "topic of a group",
                "verbose_name_plural": "topics of groups",
                "default_permissions": ("view",),
                "constraints": [
                    models.UniqueConstraint(fields=("group", "topic"), name="outbox_group_topic")
                ],
            },
        ),
        migrations.CreateModel(
            name="ToState",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("group", models.CharField(max_length=100)),
                ("since", models.BigIntegerField()),
                ("until", models.BigIntegerField()),
                ("width", models.BigIntegerField()),
                ("type", models.CharField(blank=True, max_length=255)),
                ("message_id", models.UUIDField(null=True, unique=True)),
                ("sent_at", models.DateTimeField(null=True)),
            ],
            options={
                "verbose_name": "range to be stated",
                "verbose_name_plural": "ranges to be stated",
                "default_permissions": ("view",),
                "constraints": [
                    models.UniqueConstraint(
                        fields=("group", "width", "since", "until", "type"),
                        name="outbox_state_once",
                    )
                ],
            },
        ),
    ]

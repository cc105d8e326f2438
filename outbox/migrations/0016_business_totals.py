from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("django_outbox", "0015_reply_group"),
    ]

    operations = [
        migrations.AddField(
            model_name="break",
            name="figures",
            field=models.JSONField(null=True, verbose_name="business totals"),
        ),
        migrations.AlterField(
            model_name="break",
            name="kind",
            field=models.CharField(
                choices=[
                    ("missing", "missing there"),
                    ("unknown", "unknown here"),
                    ("unsettled", "unsettled"),
                    ("twice", "counted twice"),
                    ("measure", "business totals"),
                ],
                max_length=10,
                verbose_name="kind",
            ),
        ),
    ]

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("django_inbox", "0007_binding"),
    ]

    operations = [
        migrations.AddField(
            model_name="receipt",
            name="traceback",
            field=models.TextField(
                help_text="of the error; of a long one the middle is cut",
                null=True,
                verbose_name="traceback",
            ),
        ),
        migrations.AddField(
            model_name="receipt",
            name="last_attempts",
            field=models.TextField(
                help_text="JSON: when each ended, its error, how long it took, and its process",
                null=True,
                verbose_name="last attempts",
            ),
        ),
    ]

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("django_outbox", "0002_scheduled"),
    ]

    operations = [
        migrations.CreateModel(
            name="Messaging",
            fields=[],
            options={
                "verbose_name": "messaging",
                "verbose_name_plural": "messaging",
                "proxy": True,
                "default_permissions": (),
                "indexes": [],
                "constraints": [],
            },
            bases=("django_outbox.message",),
        ),
    ]

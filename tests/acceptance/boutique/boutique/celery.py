import os

from outbox.celery import OutboxCelery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "boutique.settings")

app = OutboxCelery("boutique")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

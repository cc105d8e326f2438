"""The Celery application of the example project; its tasks commit with the data of their sender."""

import os

from celery import Celery

from outbox.celery import OutboxCelery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")

# Without a broker no worker could run anything, and no relay could carry tasks to one.
app: Celery = OutboxCelery("project") if os.environ.get("BROKER_URL") else Celery("project")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

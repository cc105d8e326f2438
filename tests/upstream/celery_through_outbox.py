"""A pytest plugin for Celery's own tests: the app that its fixtures make is an OutboxCelery."""

import django
from celery.contrib.testing import app as testing

from outbox.celery import OutboxCelery

django.setup()
testing.Celery = OutboxCelery

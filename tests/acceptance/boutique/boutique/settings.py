"""As in production: brokers have addresses, at which nobody listens here."""

import json
import os

SECRET_KEY = "of tests"
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "rest_framework",
    "outbox",
    "relay",
    "inbox",
    "shop",
    "billing",
]
DATABASES = {"default": json.loads(os.environ["DATABASE"]) | {"ATOMIC_REQUESTS": True}}
ROOT_URLCONF = "boutique.urls"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

OUTBOX = {"SOURCE": "/boutique"}
RELAYS = {
    "default": {"BACKEND": "relay.brokers.amqp.AMQPBroker", "URL": "amqp://broker.invalid//"},
}
CELERY_BROKER_URL = "amqp://broker.invalid//"

"""A service that books what another one sells. They share a broker, and no code."""

import json
import os

SECRET_KEY = "of tests"
INSTALLED_APPS = ["outbox", "relay", "inbox", "booking"]
DATABASES = {"default": json.loads(os.environ["DATABASE"])}
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

OUTBOX = {"SOURCE": os.environ["SOURCE"]}
RELAYS = {
    "default": {
        "BACKEND": "relay.brokers.amqp.AMQPBroker",
        "URL": os.environ["BROKER"],
        "OPTIONS": {"EXCHANGE": os.environ["EXCHANGE"]},
    },
}
INBOX = {"PREFETCH": 10, "STATEMENTS": True}

"""A service that sends parcels. It shares a broker with the groups that take them, and no code."""

import json
import os

SECRET_KEY = "of tests"
INSTALLED_APPS = ["outbox", "relay", "inbox", "sending"]
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
INBOX = {"PREFETCH": 10}

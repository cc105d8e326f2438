"""A service that tells what it sells, and compares with the one that books it, which it names."""

import json
import os
from datetime import timedelta

SECRET_KEY = "of tests"
INSTALLED_APPS = ["outbox", "relay", "inbox", "selling"]
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
RECONCILE = {
    os.environ["PEER"]: {
        "TYPES": ["shop.#"],
        "EVERY": timedelta(seconds=1),
        "GRACE": timedelta(seconds=1),
        "BUCKET": timedelta(seconds=1),
    }
}

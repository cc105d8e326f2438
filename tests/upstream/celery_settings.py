"""Settings for Celery's own integration tests: everything that is sent goes through the outbox."""

import os

from tests.settings import *  # noqa: F403

OUTBOX = {**globals().get("OUTBOX", {}), "CELERY_OUTSIDE": "own"}
RELAYS = {
    "default": {
        "BACKEND": "relay.brokers.amqp.AMQPBroker",
        "URL": os.environ["TEST_BROKER"],
        "MESSAGES": "tasks",
    }
}

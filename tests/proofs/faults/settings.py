"""Settings of the processes under fire; the environment says where everything is.

DATABASE_URL     through a proxy, for relays and consumers
BROKER_URL       likewise
FAULTS_EXCHANGE  the exchange of this world
FAULTS_GROUP     the group, and so the queue, of its handlers
FAULTS_CALLBACKS the URL of the receiver of callbacks, through a proxy
FAULTS_CLOCK     1: the process's clock can be stepped by signals, see tests.proofs.faults.clock

All patience is short, so that a fault is noticed and over within seconds.
"""

import os
from datetime import timedelta

if os.environ.get("FAULTS_CLOCK"):
    # First of all: what is imported later may keep a reference to the real clock.
    from tests.proofs.faults import clock

    clock.install()

from project import settings as base
from project.settings import *  # noqa: F403
from tests.kit.services.callbacks import LOCAL, SECRET

INSTALLED_APPS = [
    *(app for app in base.INSTALLED_APPS if not app.startswith("project.")),
    "tests.proofs.faults.service",
]
DEBUG = False  # with it Django keeps the last statements, and memory is to be flat
FAULTS_GROUP = os.environ.get("FAULTS_GROUP", "faults")
FAULTS_CALLBACKS = os.environ.get("FAULTS_CALLBACKS", "")

_exchange = os.environ.get("FAULTS_EXCHANGE", "faults")
_patience = {"HEARTBEAT": 3, "CONNECT_TIMEOUT": 2.0, "SOCKET_TIMEOUT": 4.0}

OUTBOX = {
    "SOURCE": "/faults",
    "WEBHOOKS": {"SECRETS": SECRET, "HTTP": True, "SUBNETS": LOCAL},
}
RELAYS = {
    "default": {
        "BACKEND": "relay.brokers.amqp.AMQPBroker",
        "URL": base.BROKER_URL or "amqp://guest:guest@127.0.0.1//",
        "OPTIONS": {**_patience, "EXCHANGE": _exchange, "CONFIRM_TIMEOUT": 3.0},
        "PAGE_SIZE": 50,
        "POLL_INTERVAL": 0.5,
        "RETRY_MAX": 1.0,
        "PARK_MIN": 0.2,
        # With each attempt at a full queue the others get a copy, which is work for consumers.
        "PARK_MAX": 3.0,
    },
    "callbacks": {
        "BACKEND": "relay.brokers.webhook.WebhookBroker",
        "OPTIONS": {"TIMEOUT": 2.0},
        "PAGE_SIZE": 50,
        "POLL_INTERVAL": 0.5,
        "RETRY_MAX": 1.0,
        "PARK_MIN": 0.2,
        "PARK_MAX": 3.0,
    },
}
# Of a second instead of a minute, so that an hour of buckets is a minute.
RECONCILE = {
    FAULTS_GROUP: {
        "TYPES": ["faults.#"],
        "EVERY": timedelta(seconds=3),
        "GRACE": timedelta(seconds=10),
        "BUCKET": timedelta(seconds=1),
    },
}
INBOX = {
    **_patience,
    "EXCHANGE": _exchange,
    "GROUP": FAULTS_GROUP,  # which takes replies, acknowledgements and answers to statements
    "STATEMENTS": True,
    "PREFETCH": 50,
    "RETRY_MAX": 1.0,
    "RETRY_BASE": 0.2,
    "RETRY_CAP": 1.0,
    "RETRY_ATTEMPTS": 1000,
}

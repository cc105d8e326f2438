"""Settings of the measured processes; the environment says where everything is.

BENCH_RELAY   the name of the relay, by default "default"
BENCH_START   where it starts, by default from the beginning
BENCH_LANES   how many lanes the log has, by default the default
BENCH_QUEUE   the queue, by default "bench"
"""

import os

from project import settings as base
from project.settings import *  # noqa: F403

INSTALLED_APPS = [
    *(app for app in base.INSTALLED_APPS if not app.startswith("project.")),
    "benchmarks.service",
]
DEBUG = False  # with it Django keeps the last statements

OUTBOX = {
    "SOURCE": "/bench",
    **({"LANES": int(os.environ["BENCH_LANES"])} if "BENCH_LANES" in os.environ else {}),
}
RELAYS = {
    os.environ.get("BENCH_RELAY", "default"): {
        "BACKEND": "relay.brokers.amqp.AMQPBroker",
        "URL": base.BROKER_URL or "amqp://guest:guest@127.0.0.1//",
        "OPTIONS": {"EXCHANGE": "bench"},
        "START": os.environ.get("BENCH_START", "beginning"),
    },
}
INBOX = {"EXCHANGE": "bench", "GROUP": os.environ.get("BENCH_QUEUE", "bench")}

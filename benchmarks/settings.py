"""Settings of the measured processes; the environment says where everything is.

BENCH_RELAY    the name of the relay, by default "default"
BENCH_START    where it starts, by default from the beginning
BENCH_LANES    how many lanes the log has, by default the default
BENCH_PREPARE  the option prepare_threshold of the database's connections
BENCH_QUEUE    the queue, by default "bench"
BENCH_KEEP     seconds for which anything is kept, if it is pruned at all
BENCH_METRICS  who exports metrics, in one word or two; OpenTelemetry has an SDK then
BENCH_TRACING  OUTBOX["TRACING"], by default "off"; otherwise there is an SDK that samples all
BENCH_HANDLED  a file for the times at which handlers' transactions have committed
"""

import os
from datetime import timedelta

from project import settings as base
from project.settings import *  # noqa: F403

INSTALLED_APPS = [
    *(app for app in base.INSTALLED_APPS if not app.startswith("project.")),
    "benchmarks.service",
]
if "BENCH_PREPARE" in os.environ:
    _options = base.DATABASES["default"].get("OPTIONS", {})
    _options["prepare_threshold"] = int(os.environ["BENCH_PREPARE"])
    base.DATABASES["default"]["OPTIONS"] = _options
DEBUG = False  # with it Django keeps the last statements

_keep = float(os.environ.get("BENCH_KEEP", 0))
_retention = {"RETENTION": timedelta(seconds=_keep)} if _keep else {}
_pruning = {"PRUNE_INTERVAL": 5.0 if _keep else 0.0}

OUTBOX = {
    "SOURCE": "/bench",
    "METRICS": os.environ.get("BENCH_METRICS", "").split(),
    "TRACING": os.environ.get("BENCH_TRACING", "off"),
    **_retention,
    **({"LANES": int(os.environ["BENCH_LANES"])} if "BENCH_LANES" in os.environ else {}),
}
RELAYS = {
    os.environ.get("BENCH_RELAY", "default"): {
        "BACKEND": "relay.brokers.amqp.AMQPBroker",
        "URL": base.BROKER_URL or "amqp://guest:guest@127.0.0.1//",
        "OPTIONS": {"EXCHANGE": "bench"},
        "START": os.environ.get("BENCH_START", "beginning"),
        **_pruning,
    },
}
INBOX = {
    "EXCHANGE": "bench",
    "GROUP": os.environ.get("BENCH_QUEUE", "bench"),
    **_retention,
    **_pruning,
}
RECONCILE = {}
BENCH_HANDLED = os.environ.get("BENCH_HANDLED", "")

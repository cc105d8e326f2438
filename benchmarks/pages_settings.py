"""Settings of the process that opens pages: those of benchmarks.weeks, and addresses."""

import os

from benchmarks import settings as measured
from benchmarks import weeks
from benchmarks.settings import *  # noqa: F403

ROOT_URLCONF = "benchmarks.service.urls"
ALLOWED_HOSTS = ["testserver"]

OUTBOX = measured.OUTBOX | {"LANES": weeks.LANES}
# Of a broker's time nothing is measured: messages would go to handlers of the same process.
RELAYS = {
    name: {"BACKEND": "relay.brokers.local.LocalBroker", "PRUNE_INTERVAL": 0.0}
    for name in weeks.RELAYS
}
INBOX = {"GROUP": "group0"}
OUTBOX_API = {"READ_RATE": "", "ACT_RATE": ""}
LOGGING = measured.LOGGING | {
    "root": {"handlers": ["console"], "level": os.environ.get("BENCH_LOG", "ERROR")}
}

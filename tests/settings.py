"""Settings of the tests: those of the example project, and an app of the tests' own.

Child processes of a test get its exchange, its group and its settings from the environment, so
that tests do not meet on a broker they share:

TEST_EXCHANGE   the exchange that the relay publishes to and the consumer binds to
TEST_GROUP      the group, and so the queue, of the test app's handlers
TEST_INBOX      more of INBOX, as JSON
TEST_OUTBOX     more of OUTBOX, as JSON
TEST_RELAY      more of RELAYS["default"], as JSON
TEST_RELAYS     more of RELAYS, as JSON
TEST_TASKS_OF_DJANGO   TASKS, as JSON
"""

import json
import os

from project import settings as base
from project.settings import *  # noqa: F403
from tests.kit import csp

# A second database with an outbox of its own, for what `using` promises.
DATABASES = {
    **base.DATABASES,
    "other": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"},
}
# No page of ours needs more; a browser tells of what does as an error.
SECURE_CSP = csp.STRICT
MIDDLEWARE = [csp.MIDDLEWARE, *base.MIDDLEWARE]
INSTALLED_APPS = [*base.INSTALLED_APPS, "tests.testapp", "tests.outbox"]
TEST_GROUP = os.environ.get("TEST_GROUP", "tests")

_exchange = os.environ.get("TEST_EXCHANGE", "events")
INBOX = {"EXCHANGE": _exchange, **json.loads(os.environ.get("TEST_INBOX", "{}"))}
RECONCILE = {}
OUTBOX = {"SOURCE": "/project", **json.loads(os.environ.get("TEST_OUTBOX", "{}"))}
if base.BROKER_URL:
    RELAYS = {
        **base.RELAYS,
        "default": {
            **base.RELAYS["default"],
            "OPTIONS": {**base.RELAYS["default"]["OPTIONS"], "EXCHANGE": _exchange},
        },
    }
if "TEST_RELAY" in os.environ:
    RELAYS = {
        **RELAYS,
        "default": {**RELAYS["default"], **json.loads(os.environ["TEST_RELAY"])},
    }
RELAYS = {**RELAYS, **json.loads(os.environ.get("TEST_RELAYS", "{}"))}
if "TEST_TASKS_OF_DJANGO" in os.environ:
    TASKS = json.loads(os.environ["TEST_TASKS_OF_DJANGO"])

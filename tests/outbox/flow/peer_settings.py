"""Settings of a second service, with a database of its own."""

from tests.settings import *  # noqa: F403

ROOT_URLCONF = "tests.outbox.flow.peer_urls"
OUTBOX = {"SOURCE": "/billing"}

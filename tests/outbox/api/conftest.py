"""Fixtures of the tests of the API."""

from collections.abc import Iterator

import pytest
from django.test import override_settings

from tests.kit.support import Registered
from tests.outbox.api import quoting


@pytest.fixture
def _quoting(registered: Registered) -> Iterator[None]:
    """The views of quoting are there, and their handler."""
    registered("quoting.noted")
    quoting.Mapped.written.clear()
    settings = override_settings(
        ROOT_URLCONF="tests.outbox.api.quote_urls",
        INBOX={"GROUP": "shop"},
        RELAYS={"default": {"BACKEND": "relay.brokers.local.LocalBroker"}},
    )
    with quoting.declared(), settings:
        yield

"""RELAYS: what is accepted, and how it reaches the relay."""

from collections.abc import Iterator

import pytest
from django.test import override_settings

from outbox.exceptions import ConfigurationError
from outbox.shutdown import Shutdown
from relay.conf import get_relay_settings
from relay.management.commands.relay import build

LOCAL = {"BACKEND": "relay.brokers.local.LocalBroker"}


@pytest.fixture
def shutdown() -> Iterator[Shutdown]:
    with Shutdown() as made:
        yield made


def test_the_bound_of_a_page_reaches_the_log(shutdown: Shutdown) -> None:
    """PAGE_BYTES is 16 MiB, or what a relay says."""
    for options, expected in (({}, 16 * 1024 * 1024), ({"PAGE_BYTES": 1000}, 1000)):
        with override_settings(RELAYS={"default": LOCAL | options}):
            assert build("default", "default", shutdown).log.page_bytes == expected


@pytest.mark.parametrize("value", [0, -1, 1.5, "16MB"])
def test_a_page_of_no_size_is_refused(value: object) -> None:
    """PAGE_BYTES is a positive whole number."""
    with (
        override_settings(RELAYS={"default": LOCAL | {"PAGE_BYTES": value}}),
        pytest.raises(ConfigurationError, match="PAGE_BYTES"),
    ):
        get_relay_settings("default")

"""RELAYS: what is accepted, and how it reaches the relay."""

from collections.abc import Iterator

import pytest
from django.test import override_settings

from outbox.exceptions import ConfigurationError
from outbox.runtime.shutdown import Shutdown
from relay.checks import check_relays
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


def test_everything_wrong_of_all_relays_is_told_at_once() -> None:
    """E001 for each, with the relay's name; options and URLs are not shown."""
    relays = {
        "one": LOCAL | {"PAGE_SIZE": -1, "START": "then", "OPTIONS": "s3cret"},
        "two": {"URL": 7},
        3: LOCAL,
        "four": LOCAL | {"PARK_MIN": 5.0, "PARK_MAX": 1.0},
    }
    with override_settings(RELAYS=relays):
        errors = check_relays()

    assert [error.id for error in errors] == ["relay.E001"] * 7
    told = "\n".join(error.msg for error in errors)
    assert "RELAYS['one']: PAGE_SIZE must be from 0 to 100000, not -1" in told
    assert "RELAYS['one']: START must be 'beginning' or 'now', not 'then'" in told
    assert "RELAYS['one']: OPTIONS must be a dict, not str" in told
    assert "RELAYS['two'] needs a BACKEND" in told
    assert "RELAYS['two']['URL'] must be a string, not int" in told
    assert "RELAYS[3]: a name has" in told
    assert "RELAYS['four']: 0 < PARK_MIN <= PARK_MAX must hold, not of 5.0 and 1.0" in told
    assert "s3cret" not in told


@pytest.mark.parametrize(
    ("backend", "options"),
    [
        ("amqp.AMQPBroker", {"MAX_IN_FLIGHT": 0, "HEARTBEAT": -1, "NOPE": 1, "EXCHANGE": 4}),
        ("kombu.KombuBroker", {"CONNECT_TIMEOUT": 0, "SSL": 1, "NOPE": 1, "SOCKET_TIMEOUT": ""}),
    ],
)
def test_all_wrong_options_of_a_broker_are_told_at_once(
    backend: str, options: dict[str, object]
) -> None:
    """E002 for each, and for the URL."""
    relay = {
        "BACKEND": f"relay.brokers.{backend}",
        "URL": "amqp://shop:s3cret@host:port//",
        "OPTIONS": options,
    }
    with override_settings(RELAYS={"default": relay}):
        errors = [error for error in check_relays() if error.id == "relay.E002"]

    assert len(errors) == 1 + len(options)
    told = "\n".join(error.msg for error in errors)
    assert all(name in told for name in options)
    assert "s3cret" not in told

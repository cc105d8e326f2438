"""Settings of the consumer."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import override_settings

from inbox.conf import InboxSettings, broker_url, inbox_settings
from inbox.verdicts import RetryPolicy
from outbox.exceptions import ConfigurationError

pytestmark = pytest.mark.sqlite

AMQP = {"BACKEND": "relay.brokers.amqp.AMQPBroker", "URL": "amqp://relay//"}
LOCAL = {"BACKEND": "relay.brokers.local.LocalBroker"}


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"PREFETCH": 0}, "PREFETCH"),
        ({"PREFETCH": 10_001}, "PREFETCH"),
        ({"PREFETCH_BYTES": 0}, "PREFETCH_BYTES"),
        ({"PREFETCH_BYTES": 2**29 + 1}, "PREFETCH_BYTES"),
        ({"MAX_BYTES": 0}, "MAX_BYTES"),
        ({"MAX_BYTES": 2**29 + 1}, "MAX_BYTES"),
        ({"BATCH_SECONDS": 0}, "BATCH_SECONDS"),
        ({"BATCH_SECONDS": -1.0}, "BATCH_SECONDS"),
        ({"BATCH_SECONDS": 3601}, "BATCH_SECONDS"),
        ({"BATCH_SECONDS": float("nan")}, "BATCH_SECONDS"),
        ({"RETRY_ATTEMPTS": 0}, "RETRY_ATTEMPTS"),
        ({"RETRY_BASE": 0}, "0 < RETRY_BASE"),
        ({"RETRY_BASE": 2, "RETRY_CAP": 1}, "RETRY_BASE <= RETRY_CAP"),
        ({"GAP_TIMEOUT": -1}, "GAP_TIMEOUT"),
        ({"RETENTION": 0}, "RETENTION"),
        ({"RETENTION": timedelta(days=-1)}, "RETENTION"),
        ({"RETENTION": "30 days"}, "RETENTION"),
        ({"RETENTION": 10**12}, "RETENTION"),
        ({"PRUNE_INTERVAL": -1}, "PRUNE_INTERVAL"),
        ({"PRUNE_INTERVAL": 0.01}, "PRUNE_INTERVAL"),
        ({"PRUNE_INTERVAL": 86_401}, "PRUNE_INTERVAL"),
        ({"RETRY_MAX": 0.05}, "RETRY_MAX"),
        ({"GROUP": "with space"}, "GROUP"),
        ({"GROUP": "amq.reserved"}, "GROUP"),
        ({"GROUP": "x" * 101}, "GROUP"),
        ({"QUEUE_PREFIX": "with space"}, "QUEUE_PREFIX"),
        ({"QUEUE_PREFIX": "amq.reserved"}, "QUEUE_PREFIX"),
        ({"QUEUE_PREFIX": "x" * 101}, "QUEUE_PREFIX"),
        ({"EXCHANGE": ""}, "EXCHANGE"),
        ({"EXCHANGE": "ä" * 128}, "EXCHANGE"),
        ({"HEARTBEAT": -1}, "HEARTBEAT"),
        ({"SOCKET_TIMEOUT": 0}, "SOCKET_TIMEOUT"),
        ({"CONNECT_TIMEOUT": -1}, "CONNECT_TIMEOUT"),
    ],
)
def test_values_out_of_range_are_refused(values: dict[str, Any], error: str) -> None:
    """The error names the setting."""
    with pytest.raises(ConfigurationError, match=error):
        InboxSettings(**values)


def test_unknown_keys_are_refused() -> None:
    """A misspelt setting is not ignored."""
    with override_settings(INBOX={"PREFECH": 5}), pytest.raises(ConfigurationError, match="PREFE"):
        inbox_settings()


def test_settings_are_read_live() -> None:
    """override_settings just works, and is undone."""
    with override_settings(INBOX={"PREFETCH": 7}):
        assert inbox_settings().PREFETCH == 7
    assert inbox_settings().PREFETCH == 100


@pytest.mark.parametrize(
    ("source", "group"),
    [
        ("/shop", "shop"),
        ("/eu/shop", "eu.shop"),
        ("https://example.com/shop", "https:.example.com.shop"),
        ("/ein%20laden", "ein.20laden"),
        ("/" + "x" * 200, "x" * 100),
        ("/", "inbox"),
    ],
)
def test_the_default_group_comes_from_the_source(source: str, group: str) -> None:
    """Whatever URI reference the source is, the name can be that of a queue."""
    with override_settings(OUTBOX={"SOURCE": source}, INBOX={}):
        assert inbox_settings().group == group


def test_the_policies_follow_the_settings() -> None:
    """That of handlers that have none, and the pauses of an outage."""
    conf = InboxSettings(RETRY_ATTEMPTS=5, RETRY_BASE=1, RETRY_CAP=3, RETRY_MAX=0.5)

    assert conf.retry_policy == RetryPolicy(attempts=5, base=1, cap=3)
    assert [conf.retry_policy.backoff.ceiling(attempt) for attempt in range(4)] == [1, 2, 3, 3]
    assert conf.backoff.ceiling(99) == 0.5


@pytest.mark.parametrize(
    ("given", "window"),
    [
        (7, timedelta(days=7)),
        (0.5, timedelta(hours=12)),
        (timedelta(1), timedelta(1)),
        (None, None),
    ],
)
def test_retention_is_a_time_or_a_number_of_days(given: Any, window: timedelta | None) -> None:
    """None is for ever."""
    assert InboxSettings(RETENTION=given).retention == window


@pytest.mark.parametrize(
    ("inbox", "relays", "url"),
    [
        ({"URL": "amqp://own//"}, {"default": AMQP}, "amqp://own//"),
        ({}, {"local": LOCAL, "default": AMQP}, "amqp://relay//"),
        ({}, {"default": LOCAL}, ""),
        ({}, {"default": {**AMQP, "URL": "redis://x"}}, ""),
        ({}, {}, ""),
        ({}, None, ""),
        ({}, {"default": "nonsense"}, ""),
    ],
)
def test_the_broker_is_the_inboxs_own_or_the_relays(
    inbox: dict[str, str], relays: Any, url: str
) -> None:
    """INBOX['URL'], else that of the first relay which is AMQP, else none."""
    with override_settings(INBOX=inbox, RELAYS=relays):
        assert broker_url() == url


def exchange_and_ssl() -> tuple[str, Any]:
    found = inbox_settings()
    return found.EXCHANGE, found.SSL


OPTIONS = {"EXCHANGE": "orders", "SSL": {"ca_certs": "/ca.pem"}, "MANDATORY": True}


@pytest.mark.parametrize(
    ("inbox", "relay", "exchange", "ssl"),
    [
        ({}, {**AMQP, "OPTIONS": OPTIONS}, "orders", {"ca_certs": "/ca.pem"}),
        ({"URL": ""}, {**AMQP, "OPTIONS": OPTIONS}, "orders", {"ca_certs": "/ca.pem"}),
        ({}, AMQP, "events", None),
        ({}, {**AMQP, "OPTIONS": {"EXCHANGE": 5, "SSL": "yes"}}, "events", None),
        ({}, {**AMQP, "OPTIONS": "nonsense"}, "events", None),
        ({"EXCHANGE": "mine", "SSL": None}, {**AMQP, "OPTIONS": OPTIONS}, "mine", None),
        ({"URL": "amqp://own//"}, {**AMQP, "OPTIONS": OPTIONS}, "events", None),
    ],
)
def test_exchange_and_tls_come_from_the_same_relay_as_the_url(
    inbox: dict[str, Any], relay: dict[str, Any], exchange: str, ssl: Any
) -> None:
    """What INBOX sets itself goes before; with a URL of its own nothing is the relay's."""
    other = {**AMQP, "URL": "amqp://other//", "OPTIONS": {"EXCHANGE": "other"}}
    with override_settings(INBOX=inbox, RELAYS={"first": relay, "second": other}):
        assert exchange_and_ssl() == (exchange, ssl)


def test_options_of_a_relay_without_an_amqp_url_are_not_used() -> None:
    """They mean something else, if anything."""
    local = {**LOCAL, "OPTIONS": {"EXCHANGE": "local"}}
    with override_settings(INBOX={}, RELAYS={"local": local, "default": AMQP}):
        assert (broker_url(), inbox_settings().EXCHANGE) == ("amqp://relay//", "events")


def test_the_relays_are_read_live() -> None:
    """Overriding RELAYS alone is enough, also to undo it."""
    with override_settings(INBOX={}, RELAYS={"default": AMQP}):
        assert (broker_url(), inbox_settings().EXCHANGE) == ("amqp://relay//", "events")
        with override_settings(RELAYS={"default": {**AMQP, "OPTIONS": OPTIONS}}):
            assert inbox_settings().EXCHANGE == "orders"
        assert inbox_settings().EXCHANGE == "events"

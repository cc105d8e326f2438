"""System checks of the relay that are about its broker."""

from typing import Any

import pytest
from django.test import override_settings

from relay.checks import check_deployment

AMQP = {"BACKEND": "relay.brokers.amqp.AMQPBroker", "URL": "amqp://127.0.0.1//"}
LOCAL = {"BACKEND": "relay.brokers.local.LocalBroker"}
KOMBU = {
    "BACKEND": "relay.brokers.kombu.KombuBroker",
    "URL": "redis://127.0.0.1/0",
    "MESSAGES": "tasks",
}


@pytest.mark.parametrize("relay", [AMQP, LOCAL], ids=["amqp", "local"])
def test_a_broker_that_promises_all_draws_no_warning(relay: dict[str, Any]) -> None:
    with override_settings(RELAYS={"default": relay}):
        assert check_deployment() == []


def test_what_a_broker_does_not_promise_is_said_before_it_is_used() -> None:
    """By its capabilities, each as what may happen."""
    with override_settings(RELAYS={"tasks": KOMBU}):
        [warning] = check_deployment()

    assert warning.id == "relay.W013"
    assert "KombuBroker promises less than the outbox" in warning.msg
    for text in ("confirms nothing", "restarts", "overtake", "dropped without a word"):
        assert text in warning.msg

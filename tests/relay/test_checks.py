"""System checks of the relay that are about its broker."""

from typing import Any

import pytest
from django.test import override_settings

from relay.checks import check_deployment, check_relays
from tests.kit.services.callbacks import SECRET

AMQP = {"BACKEND": "relay.brokers.amqp.AMQPBroker", "URL": "amqp://127.0.0.1//"}
LOCAL = {"BACKEND": "relay.brokers.local.LocalBroker"}
KOMBU = {
    "BACKEND": "relay.brokers.kombu.KombuBroker",
    "URL": "redis://127.0.0.1/0",
    "MESSAGES": "tasks",
}
WEBHOOKS = {"BACKEND": "relay.brokers.webhook.WebhookBroker"}


@pytest.mark.parametrize("relay", [AMQP, LOCAL, WEBHOOKS], ids=["amqp", "local", "webhooks"])
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


@pytest.mark.parametrize(
    ("secrets", "relays", "expected"),
    [
        (SECRET, {"default": LOCAL}, ["relay.E004"]),
        (SECRET, {"default": LOCAL, "webhooks": WEBHOOKS}, []),
        ("", {"default": LOCAL}, []),
        ("", {"default": LOCAL, "webhooks": WEBHOOKS}, ["relay.E002"]),
        ("nonsense", {"default": LOCAL, "webhooks": WEBHOOKS}, []),  # is outbox.E009
        (SECRET, {"webhooks": {**WEBHOOKS, "MESSAGES": "events"}}, ["relay.E003"]),
        (SECRET, {"webhooks": {**WEBHOOKS, "URL": "https://example.com"}}, ["relay.E002"]),
    ],
)
def test_callbacks_need_a_secret_and_a_relay(
    secrets: str, relays: dict[str, Any], expected: list[str]
) -> None:
    """Either alone sends nothing."""
    with override_settings(OUTBOX={"WEBHOOKS": {"SECRETS": secrets}}, RELAYS=relays):
        assert [each.id for each in check_relays() if "W003" not in str(each.id)] == expected


@pytest.mark.parametrize(
    ("relays", "expected"),
    [
        ({"default": LOCAL}, []),
        ({"events": LOCAL}, ["relay.E005"]),
        ({"events": LOCAL, "default": WEBHOOKS}, ["relay.E005"]),
        ({"events": LOCAL, "default": KOMBU}, ["relay.E005"]),
    ],
)
def test_what_is_reconciled_is_published_by_a_relay_that_there_is(
    relays: dict[str, Any], expected: list[str]
) -> None:
    """Else nothing would ever be missing: all of it could be under way."""
    webhooks = {"SECRETS": SECRET}
    reconcile = {"billing": {"RELAY": "default"}}
    with override_settings(RELAYS=relays, RECONCILE=reconcile, OUTBOX={"WEBHOOKS": webhooks}):
        found = [str(each.id) for each in check_relays()]
    assert [each for each in found if each == "relay.E005"] == expected

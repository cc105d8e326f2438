"""Requests that are to be called back, and relays that do so."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from django.db import transaction
from django.test import override_settings

import outbox
from inbox.handlers.registry import handlers
from inbox.replies import taking, withdrawals
from outbox.message.event_types import registry
from outbox.models import Message
from outbox.webhooks.conf import webhook_settings
from relay.brokers.webhook import WebhookBroker
from tests.kit.services.callbacks import LOCAL, SECRET, CallbackServer


@dataclass(frozen=True, slots=True)
class Checked:
    ok: bool


@dataclass(frozen=True, slots=True)
class Check:
    number: int


@pytest.fixture
def server() -> Iterator[CallbackServer]:
    with CallbackServer() as made:
        yield made


@pytest.fixture
def called_back() -> Iterator[Callable[..., str]]:
    """Asks, with a URL, and settles it; returns the id of the message that calls back."""
    added = [
        outbox.event("callbacks.checked")(Checked),
        outbox.request("callbacks.check", reply=Checked)(Check),
    ]
    webhooks = {"SECRETS": SECRET, "HTTP": True, "SUBNETS": LOCAL}

    def called_back(url: str, **options: Any) -> str:
        with transaction.atomic():
            asked = outbox.ask(Check(7), callback_url=url, **options)
            assert asked.cancel(by="somebody")
        return str(Message.objects.get(subject=asked.id).message_id)

    with override_settings(OUTBOX={"LANES": 1, "WEBHOOKS": webhooks}):
        taking.install()
        yield called_back
    handlers.remove(taking.NAME)
    handlers.remove(withdrawals.NAME)
    for each in added:
        registry.remove(registry.of_class(each))
    webhook_settings.cache_clear()


@pytest.fixture
def broker() -> Iterator[WebhookBroker]:
    made = WebhookBroker.from_settings("", {"TIMEOUT": 5.0}, using="default")
    yield made
    made.close()

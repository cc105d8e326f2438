"""The services, and handlers that answer."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.test import override_settings

import outbox
from inbox.handlers.registry import Handler, handlers
from inbox.replies import taking, withdrawals
from outbox.message.envelope import Envelope
from outbox.message.event_types import registry
from tests.requests.support import ANSWERER, ASKER, Declined, Given, Quote, Wire


@pytest.fixture
def wire() -> Iterator[Wire]:
    relays = {"mine": {"BACKEND": "relay.brokers.local.LocalBroker"}}
    added = [
        outbox.event("pricing.quote.given")(Given),
        outbox.event("pricing.quote.declined")(Declined),
        outbox.request("pricing.quote", key="basket_id", reply=(Given, Declined))(Quote),
    ]
    with override_settings(OUTBOX={"LANES": 1}, INBOX={"GROUP": ASKER}, RELAYS=relays):
        taking.install()
        yield Wire()
    handlers.remove(taking.NAME)
    handlers.remove(withdrawals.NAME)
    for each in added:
        registry.remove(registry.of_class(each))


@pytest.fixture
def answer() -> Iterator[Callable[..., None]]:
    """Registers a handler that answers, and forgets it after the test."""
    names: list[str] = []

    def answer(function: Callable[[Any, Envelope], object], **options: Any) -> None:
        name = f"answers.{len(names)}"
        options = {"pattern": "pricing.quote", "declared_group": ANSWERER} | options
        handlers.add(Handler(name=name, function=function, **options))
        names.append(name)

    yield answer
    for name in names:
        handlers.remove(name)

"""The services of the models: of requests, and of acknowledgements."""

from collections.abc import Iterator
from functools import partial

import pytest
from django.test import override_settings

import outbox
from inbox.acknowledgements import telling
from inbox.handlers.registry import handlers
from inbox.replies import taking
from inbox.verdicts import RetryPolicy
from outbox.message.envelope import Envelope
from outbox.message.event_types import registry
from tests.inbox.support import Handling
from tests.proofs.model.acknowledging import ACKNOWLEDGE, QUEUES, SENDER, Parcel, groups
from tests.requests.conftest import wire

__all__ = ["wire"]


def _handle(event: object, message: Envelope, *, group: str) -> None:
    groups.handle(group, message)


@pytest.fixture
def post(handling: Handling) -> Iterator[None]:
    """A sender of parcels, and two groups that handle them."""
    added = outbox.event("post.parcel", acknowledge=ACKNOWLEDGE)(Parcel)
    for group in QUEUES:
        handling(
            partial(_handle, group=group),
            pattern="post.parcel",
            name=f"post.{group}",
            declared_group=group,
            retry=RetryPolicy(attempts=1000),
        )
    telling._proven.clear()
    relays = {"mine": {"BACKEND": "relay.brokers.local.LocalBroker"}}
    with override_settings(OUTBOX={"LANES": 1}, INBOX={"GROUP": SENDER}, RELAYS=relays):
        taking.install()
        yield
    handlers.remove(taking.NAME)
    registry.remove(registry.of_class(added))

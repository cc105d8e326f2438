"""A backend that runs what it enqueues at once, through outbox, relay and inbox."""

from collections.abc import Mapping, Sequence
from typing import Any

from django.db import transaction
from django.test import override_settings

from inbox.django_tasks.framework import AnyResult, AnyTask
from inbox.tasks import OutboxBackend
from outbox.runtime.shutdown import Shutdown
from relay.management.commands.relay import build

RELAYS = {"default": {"BACKEND": "relay.brokers.local.LocalBroker", "LISTEN": False}}


class ImmediateOutboxBackend(OutboxBackend):
    """OutboxBackend with a relay in the caller's process, for suites that ask for results."""

    def enqueue(  # type: ignore[override]
        self, task: AnyTask, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> AnyResult:
        result = super().enqueue(task, args, kwargs)
        if transaction.get_connection().in_atomic_block:
            transaction.on_commit(_relay)
            return result
        _relay()
        return self.get_result(result.id)


def _relay() -> None:
    with override_settings(RELAYS=RELAYS), Shutdown() as shutdown:
        relay = build("default", "default", shutdown)
        try:
            relay.run_until_empty()
        finally:
            relay.close()

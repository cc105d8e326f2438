"""Test what emits and what handles, without a broker, a relay, a commit or a wait.

Safe to import before Django's apps are loaded. EnvelopeFactory is in outbox.testing.factories.
"""

from outbox.exceptions import NeverEnds, NotInTests
from outbox.extensions.handling import Handled
from outbox.testing.emissions import (
    Captured,
    assert_emitted,
    assert_not_emitted,
    capture,
    emitted,
    messages,
    recorded,
    sent_tasks,
)
from outbox.testing.guarding import NoBrokerMixin, allow_broker, no_broker
from outbox.testing.handling import deliver, drain
from outbox.testing.sent import SentTask

__all__ = [
    "Captured",
    "Handled",
    "NeverEnds",
    "NoBrokerMixin",
    "NotInTests",
    "SentTask",
    "allow_broker",
    "assert_emitted",
    "assert_not_emitted",
    "capture",
    "deliver",
    "drain",
    "emitted",
    "messages",
    "no_broker",
    "recorded",
    "sent_tasks",
]

"""What is counted of emitting: see outbox.instruments."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from outbox.instruments import OTHER, Instrument, Kind, add, declare, hook, record
from outbox.message.envelope import Envelope
from outbox.message.event_types import registry
from outbox.message.kinds import KINDS

EMITTED = declare(
    Instrument(
        name="outbox_emitted_total",
        kind=Kind.COUNTER,
        labels={"type": "cloudevents.event_type"},
        meaning="messages of transactions that have committed; scheduled ones as well",
        otel="outbox.emitted.messages",
        unit="{message}",
    )
)
EMIT_SECONDS = declare(
    Instrument(
        name="outbox_emit_seconds",
        kind=Kind.HISTOGRAM,
        meaning="how long a call took that writes messages, within its transaction",
        otel="outbox.emit.duration",
        buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0),
    )
)

_RESERVED = frozenset(each.type for each in KINDS)


@hook
def emitted(connection: BaseDatabaseWrapper, envelopes: Sequence[Envelope], started: float) -> None:
    """Count messages once their transaction has committed, and how long it took to write them.

    `started` is when that began, by time.perf_counter(). Without atomic() there are no hooks of a
    commit, so they are counted at once.
    """
    record(EMIT_SECONDS, (), [time.perf_counter() - started])
    count = partial(_count, Counter([envelope.type for envelope in envelopes]))
    if connection.in_atomic_block:
        transaction.on_commit(count, using=connection.alias, robust=True)
    else:
        count()


@hook
def _count(types: Mapping[str, int]) -> None:
    for name, count in types.items():
        known = registry.knows(name) or name in _RESERVED
        add(EMITTED, (name if known else OTHER,), count)

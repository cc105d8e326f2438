"""The stored and transmitted form of one event: a CloudEvents 1.0 envelope."""

from collections.abc import Mapping
from datetime import datetime

import msgspec

JSON = "application/json"
STRUCTURED = "application/cloudevents"
"""What content types begin with that say that the body is the whole event, or several."""


class Envelope(msgspec.Struct, frozen=True, gc=False):
    """One message: CloudEvents attributes and the data, byte for byte as emitted.

    `id` is unique within `source`. `key` is the ordering scope, `topic` the logical address.
    `correlation_id` names the whole flow, `causation_id` the message that led to this one.
    `attributes` holds CloudEvents extension attributes that have no field of their own; and, as
    received, a `time` or `dataversion` that is none.
    """

    id: str
    source: str
    type: str
    data: bytes
    content_type: str = JSON
    version: int = 1
    topic: str = ""
    subject: str | None = None
    key: str | None = None
    time: datetime | None = None
    correlation_id: str | None = None
    causation_id: str | None = None
    trace_parent: str | None = None
    trace_state: str | None = None
    attributes: Mapping[str, str | int | bool] = msgspec.field(default_factory=dict)

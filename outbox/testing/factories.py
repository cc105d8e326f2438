# factory-boy is only partly typed.
# mypy: disable-error-code="attr-defined, no-untyped-call, misc"
"""Messages out of thin air. Needs factory-boy, which the extra `testing` installs."""

from datetime import UTC, datetime
from typing import Any

import msgspec
from factory.base import Factory

from outbox.conf import outbox_settings
from outbox.message.envelope import Envelope
from outbox.message.ids import uuid7_text
from outbox.producer.drafting import Draft, wrap


class EnvelopeFactory(Factory[Envelope]):
    """Makes messages as they come from another service; deliver() takes them.

    EnvelopeFactory(event=OrderPlaced(order_id=42))
    EnvelopeFactory(event="shop.order.placed", payload={"order_id": 42}, key="42")
    EnvelopeFactory(type="other.thing.happened", payload={"id": 1})
    EnvelopeFactory(data=b"no JSON at all")

    With an `event` the message is what emit() would make of it. Without one, `type` need not be
    registered and `payload` is its JSON. All fields of an Envelope can be given as well.
    """

    class Meta:
        model = Envelope

    event: Any = None
    payload: Any = None
    source = "/elsewhere"

    @classmethod
    def _create(cls, model_class: type[Envelope], *args: Any, **kwargs: Any) -> Envelope:
        event, payload = kwargs.pop("event"), kwargs.pop("payload")
        if event is None:
            made = _made_up(kwargs.get("type", "testing.happened"), payload)
        else:
            made = wrap(Draft(event=event, payload=payload), outbox_settings())
        return msgspec.structs.replace(made, **kwargs)

    _build = _create


def _made_up(name: str, payload: Any) -> Envelope:
    message_id = uuid7_text()
    return Envelope(
        id=message_id,
        source="",
        type=name,
        data=msgspec.json.encode({} if payload is None else payload),
        topic=name,
        time=datetime.now(UTC),
        correlation_id=message_id,
    )

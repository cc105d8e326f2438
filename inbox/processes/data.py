"""The data of an instance: an instance of the process's Data, kept as JSON, upgraded when read."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from outbox.exceptions import ConfigurationError
from outbox.message import codec
from outbox.message.event_types import EventType

if TYPE_CHECKING:
    from inbox.processes.declaring import Process

Upgrade = Callable[[str, dict[str, Any]], tuple[str, dict[str, Any]]]
"""Makes of a state and its data, as plain values, those of the next version."""


def data_type(process: str, version: int, schema: type) -> EventType:
    """Return Data as something that can be encoded and checked, in the way of events."""
    return EventType(name=process, version=version, schema=schema)


def read_data(process: type["Process"], data: bytes, event: Any) -> Any:
    """Return the data of an instance; before its first step, what an event has of it.

    That has the fields that event and Data have in common, None if Data needs others as well: then
    the method makes it.
    """
    if process.data_type is None:
        return None
    if data:
        return codec.read(data, process.data_type)
    schema = process.Data
    fields = _fields(schema)
    found = {name: getattr(event, name) for name in fields if hasattr(event, name)}
    try:
        return schema(**found)
    except (TypeError, ValueError):
        return None


def data_of(process: type["Process"], instance: "Process") -> bytes:
    """Return the data of an instance as JSON; raise ConfigurationError if it has none."""
    if process.data_type is None:
        return b"{}"
    if not isinstance(instance.data, process.Data):
        raise ConfigurationError(
            f"{process.__name__}: self.data is {instance.data!r:.100}. The event has not all that "
            f"{process.__name__}.Data needs, so the method sets it: "
            f"self.data = self.Data({', '.join(_fields(process.Data))})"
        )
    return codec.encode(instance.data, process.data_type)


def upgraded(
    upgrades: Mapping[int, Upgrade], version: int, wanted: int, state: str, data: bytes
) -> tuple[str, bytes]:
    """Return state and data of a version as the wanted one has them, one version at a time."""
    plain = msgspec.json.decode(data) if data else {}
    for each in range(version, wanted):
        if upgrade := upgrades.get(each):
            state, plain = upgrade(state, plain)
    return str(getattr(state, "value", state)), msgspec.json.encode(plain)


def _fields(schema: type) -> tuple[str, ...]:
    """Return the names of the fields of a class."""
    if issubclass(schema, msgspec.Struct):
        return schema.__struct_fields__
    return tuple(getattr(schema, "__dataclass_fields__", getattr(schema, "model_fields", ())))

"""Carriers for libraries that a project may have: Sentry and structlog.

They import nothing: what the project has not imported has nothing to carry.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from outbox.context import Carrier, register_carrier
from outbox.message.cloudevents import flaw

SHORT = 255
"""Characters of a name or a value of structlog's."""


class SentryCarrier(Carrier):
    """Lets what a handler reports to Sentry belong to the trace of what has emitted the event.

    It begins no transaction, so it costs nothing of Sentry's quota.
    """

    name = "sentry"
    attributes = ("sentrytrace", "sentrybaggage")
    uses_database = False
    _HEADERS = ("sentry-trace", "baggage")

    def take(self) -> Mapping[str, str]:
        sdk: Any = sys.modules.get("sentry_sdk")
        if sdk is None or not sdk.get_client().is_active():
            return {}
        values = (sdk.get_traceparent(), sdk.get_baggage())
        found = zip(self.attributes, values, strict=True)
        return {name: value for name, value in found if value}

    def give(self, values: Mapping[str, str]) -> AbstractContextManager[Any]:
        return _sentry(
            {
                header: values[name]
                for header, name in zip(self._HEADERS, self.attributes, strict=True)
                if name in values
            }
        )


@contextmanager
def _sentry(headers: Mapping[str, str]) -> Iterator[None]:
    sdk: Any = sys.modules.get("sentry_sdk")
    if sdk is None or not sdk.get_client().is_active():
        yield
        return
    with sdk.isolation_scope():
        sdk.continue_trace(headers)
        yield


class StructlogCarrier(Carrier):
    """Binds context variables of structlog for handlers, as they were where the event was emitted.

    Only those of `names`, and of them short texts and numbers: a message may leave the house.
    """

    name = "structlog"
    attributes = ("structlog",)
    uses_database = False

    def __init__(self, names: Sequence[str] = ("request_id",)) -> None:
        self._names = tuple(names)

    def take(self) -> Mapping[str, str]:
        variables: Any = sys.modules.get("structlog.contextvars")
        if variables is None:
            return {}
        found = self._usable(variables.get_contextvars())
        return {self.name: json.dumps(found)} if found else {}

    def give(self, values: Mapping[str, str]) -> AbstractContextManager[Any]:
        return self._bound(json.loads(values[self.name]))

    @contextmanager
    def _bound(self, values: Any) -> Iterator[None]:
        variables: Any = sys.modules.get("structlog.contextvars")
        found = self._usable(values) if isinstance(values, dict) else {}
        if variables is None or not found:
            yield
            return
        with variables.bound_contextvars(**found):
            yield

    def _usable(self, values: Mapping[str, Any]) -> dict[str, str | int | float]:
        return {
            name: values[name] for name in self._names if name in values and _is_plain(values[name])
        }


def _is_plain(value: object) -> bool:
    if isinstance(value, str):
        return flaw(value, SHORT) is None
    return isinstance(value, int | float) and len(str(value)) <= SHORT


def register() -> None:
    """Let both carry what there is."""
    register_carrier(SentryCarrier())
    register_carrier(StructlogCarrier())

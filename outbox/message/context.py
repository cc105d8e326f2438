"""What a new event inherits: correlation, causation and trace of the work that emits it."""

import logging
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields, replace
from typing import Any

from outbox.message.cloudevents import MAX_ATTRIBUTE, MAX_TRACE_STATE, bounded, flaw
from outbox.message.envelope import Envelope
from outbox.message.origin import MAX_ORIGIN, made

logger = logging.getLogger("outbox")


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Identifiers that every event emitted in this context carries.

    `correlation_id` names the whole flow, `causation_id` the direct parent; `trace_parent` and
    `trace_state` are W3C Trace Context headers; `origin` says what code it is that emits, such as
    "handler:billing.invoice".
    """

    correlation_id: str | None = None
    causation_id: str | None = None
    trace_parent: str | None = None
    trace_state: str | None = None
    origin: str | None = None

    @classmethod
    def caused_by(cls, envelope: Envelope) -> "Context":
        """Return the context for work that `envelope` sets off.

        What others send may be longer than what is emitted here: ids are represented then, a trace
        is left out.
        """
        message_id = bounded(envelope.id)
        parent, state = envelope.trace_parent, envelope.trace_state
        traced = parent is not None and len(parent) <= MAX_ATTRIBUTE
        return cls(
            correlation_id=bounded(envelope.correlation_id or message_id),
            causation_id=message_id,
            trace_parent=parent if traced else None,
            trace_state=state if traced and len(state or "") <= MAX_TRACE_STATE else None,
        )


_context: ContextVar[Context] = ContextVar("outbox_context", default=Context())  # noqa: B039 - frozen


def current_context() -> Context:
    """Return the context of the running thread or task."""
    return _context.get()


def is_handling() -> bool:
    """Tell whether a handler runs in this context, whatever database it is called on."""
    return (current_context().origin or "").startswith(made("handler", ""))


@contextmanager
def use_context(context: Context | None = None, /, **changes: Any) -> Iterator[Context]:
    """Run a block with `context`, or with the current one and some fields changed.

    with use_context(correlation_id=request.headers.get("X-Request-ID")):
        ...

    Identifiers come from outside, and must not keep anybody from emitting: one that is too long is
    cut, what no message can carry is left out, and both are logged.
    """
    chosen = _carried(replace(context or current_context(), **changes))
    token = _context.set(chosen)
    try:
        yield chosen
    finally:
        _context.reset(token)


def note_origin(origin: str) -> None:
    """Let the running context, which some use_context() will end, know what code it is."""
    _context.set(replace(_context.get(), origin=origin))


_NAMES = tuple(field.name for field in fields(Context))
_LIMITS = {"trace_state": MAX_TRACE_STATE, "origin": MAX_ORIGIN}
_TRACE = ("trace_parent", "trace_state")  # which mean nothing when they are cut


def _carried(context: Context) -> Context:
    """Return a context with what a message can carry of it."""
    found = {name: getattr(context, name) for name in _NAMES}
    mended = {name: _usable(name, value) for name, value in found.items() if value is not None}
    changes = {name: value for name, value in mended.items() if value is not found[name]}
    return replace(context, **changes) if changes else context


def _usable(name: str, value: object) -> str | None:
    limit = _LIMITS.get(name, MAX_ATTRIBUTE)
    if isinstance(value, uuid.UUID) or type(value) is int:
        value = str(value)
    if not isinstance(value, str):
        problem: str | None = f"is a {type(value).__name__}, not a string"
    elif not value:
        problem = "is empty"
    elif (problem := flaw(value, limit)) is None:
        return value
    elif name not in _TRACE and flaw(value[:limit], limit) is None:
        logger.warning("The %s of a context %s; it is cut.", name, problem)
        return value[:limit]
    logger.warning("The %s of a context %s; it is left out.", name, problem)
    return None

"""What a new event inherits: correlation, causation and trace of the work that emits it."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

from outbox.envelope import Envelope


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Identifiers that every event emitted in this context carries.

    `correlation_id` names the whole flow, `causation_id` the direct parent; `trace_parent` and
    `trace_state` are W3C Trace Context headers.
    """

    correlation_id: str | None = None
    causation_id: str | None = None
    trace_parent: str | None = None
    trace_state: str | None = None

    @classmethod
    def caused_by(cls, envelope: Envelope) -> "Context":
        """Return the context for work that `envelope` sets off."""
        return cls(
            correlation_id=envelope.correlation_id or envelope.id,
            causation_id=envelope.id,
            trace_parent=envelope.trace_parent,
            trace_state=envelope.trace_state,
        )


_context: ContextVar[Context] = ContextVar("outbox_context", default=Context())  # noqa: B039 - frozen


def current_context() -> Context:
    """Return the context of the running thread or task."""
    return _context.get()


@contextmanager
def use_context(context: Context | None = None, /, **changes: Any) -> Iterator[Context]:
    """Run a block with `context`, or with the current one and some fields changed.

    with use_context(correlation_id=request.headers["X-Request-ID"]):
        ...
    """
    chosen = replace(context or current_context(), **changes)
    token = _context.set(chosen)
    try:
        yield chosen
    finally:
        _context.reset(token)

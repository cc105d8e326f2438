"""W3C Trace Context to and from OpenTelemetry; whatever others have written, it raises nothing.

https://www.w3.org/TR/trace-context/; the wire has it whatever propagators the project has set.
"""

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanContext
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from outbox.message.cloudevents import MAX_ATTRIBUTE, MAX_TRACE_STATE, flaw

_W3C = TraceContextTextMapPropagator()
_SAMPLED_DIGITS = frozenset("13579bdf")


def text_of(context: SpanContext) -> tuple[str, str | None]:
    """Return traceparent and tracestate; a state that no message can carry is left out."""
    parent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags & 0xFF:02x}"
    state = context.trace_state.to_header() if context.trace_state else ""
    return parent, state if state and not flaw(state, MAX_TRACE_STATE) else None


def read(parent: str | None, state: str | None) -> SpanContext:
    """Return the context that a message brings along; an invalid one if it brings none."""
    if not parent or len(parent) > MAX_ATTRIBUTE:
        return trace.INVALID_SPAN_CONTEXT
    headers = {"traceparent": parent}
    if state and len(state) <= MAX_TRACE_STATE:
        headers["tracestate"] = state
    # Into an empty context: what runs here is not what the message comes from.
    return trace.get_current_span(_W3C.extract(headers, Context())).get_span_context()


def may_be_sampled(parent: str | None) -> bool:
    """Tell at a glance whether to read() a traceparent is worth its while."""
    return parent is not None and len(parent) >= 55 and parent[54] in _SAMPLED_DIGITS

"""The spans themselves, by the conventions for messaging.

https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/. Between the one who sends
and the one who receives stands a link: a message may be handled by many, late, or again.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import msgspec
from opentelemetry import trace
from opentelemetry.context import Context as SpanScope
from opentelemetry.context import attach, detach
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    TracerProvider,
    set_span_in_context,
)

from outbox.conf import outbox_settings
from outbox.error_text import path_of
from outbox.message.context import Context
from outbox.message.envelope import Envelope
from outbox.message.ids import time_of
from outbox.tracing import celery_library
from outbox.tracing.hooks import Fail
from outbox.tracing.trace_context import may_be_sampled, read, text_of

SYSTEM = "outbox"
"""What the conventions call the messaging system, where no broker is known."""
MAX_LINKS = 128
"""Of one span: what the SDK keeps by default."""
SHORT_FLOW = timedelta(minutes=1)
"""Since it was emitted: what is handled later begins a trace of its own in any case."""
DELAYED = timedelta(seconds=1)
"""A message whose time is so much after that of its id was to be delivered later."""
MAX_TEXT = 255

Attributes = dict[str, str | int]


def create_all(envelopes: Sequence[Envelope], *, own: bool = True) -> list[Envelope]:
    """Return messages with the context of a `create` span each.

    Its parent is the running span; without one, or not of our `own` choice, the trace that the
    message has. Where that is not sampled there is no span, and the message is not sampled either.
    """
    running = trace.get_current_span().get_span_context()
    if not own or not running.is_valid:
        return [_created(each, None) for each in envelopes]
    if running.trace_flags.sampled:
        return [_created(each, running) for each in envelopes]
    trace_parent, trace_state = text_of(running)
    return [
        msgspec.structs.replace(each, trace_parent=trace_parent, trace_state=trace_state)
        for each in envelopes
    ]


def _created(envelope: Envelope, running: SpanContext | None) -> Envelope:
    parent = running or read(envelope.trace_parent, envelope.trace_state)
    context = parent
    if not parent.is_valid or parent.trace_flags.sampled:
        span = _tracer().start_span(
            f"create {envelope.topic}",
            context=_within(parent) if running is None else None,
            kind=SpanKind.PRODUCER,
            attributes=_about_message("create", envelope),
        )
        span.end()
        context = span.get_span_context()
    if not context.is_valid:  # without an SDK there are no spans
        return envelope
    trace_parent, trace_state = text_of(context)
    return msgspec.structs.replace(envelope, trace_parent=trace_parent, trace_state=trace_state)


def here(context: Context) -> Context:
    """Return a context with the trace of the running span, if there is one."""
    running = trace.get_current_span().get_span_context()
    if not running.is_valid:
        return context
    trace_parent, trace_state = text_of(running)
    return Context(
        correlation_id=context.correlation_id,
        causation_id=context.causation_id,
        trace_parent=trace_parent,
        trace_state=trace_state,
        origin=context.origin,
    )


def send(
    messages: Sequence[Envelope],
    statuses: Sequence[str],
    *,
    system: str,
    relay: str,
    since: int,
) -> None:
    """Make the span of a page that was published, linked to the sampled ones of its messages."""
    if not (links := _links(messages)):
        return
    attributes = _about_many("send", system, messages) | {"outbox.relay": relay}
    _span_since(since, SpanKind.CLIENT, relay, attributes, links, _first_failure(statuses))


def receive(messages: Sequence[Envelope], *, group: str | None, since: int) -> None:
    """Make the span of a batch, from its first statement to its commit, linked as a page is."""
    if not (links := _links(messages)):
        return
    attributes = _about_many("receive", SYSTEM, messages)
    if group is not None:
        attributes["messaging.consumer.group.name"] = group
    _span_since(since, SpanKind.CLIENT, group or "inbox", attributes, links)


@contextmanager
def process(envelope: Envelope, about: Mapping[str, str], *, again: bool) -> Iterator[Fail]:
    """Run a block in the span of a handler.

    What is not sampled where it was emitted is not here: there is no span then, and what the block
    emits is not sampled either.
    """
    source = read(envelope.trace_parent, envelope.trace_state)
    if source.is_valid and not source.trace_flags.sampled:
        with _running(NonRecordingSpan(source)):
            yield _fail_of(trace.INVALID_SPAN)
        return
    follows = not again and source.is_valid and _is_short(envelope)
    span = _tracer().start_span(
        f"process {envelope.topic}",
        context=_within(source) if follows else SpanScope(),
        kind=SpanKind.CONSUMER,
        links=[Link(source)] if source.is_valid and not follows else (),
        attributes=_about_message("process", envelope) | dict(about),
    )
    try:
        with _running(span):
            yield _fail_of(span)
    finally:
        span.end()


@contextmanager
def process_task(envelope: Envelope, *, again: bool) -> Iterator[Fail]:
    """Run a block in the span of a Celery task, unless OpenTelemetry's own library makes one."""
    if celery_library.is_at_work():
        yield _fail_of(trace.INVALID_SPAN)
        return
    with process(envelope, {}, again=again) as fail:
        yield fail


def _is_short(envelope: Envelope) -> bool:
    """Tell whether the handler of a message may be in the trace that it comes from."""
    if outbox_settings().TRACING != "parent":
        return False
    made = time_of(envelope.id) or envelope.time
    if made is None:
        return True
    if envelope.time is not None and envelope.time - made > DELAYED:
        return False
    return datetime.now(UTC) - made < SHORT_FLOW


@contextmanager
def _running(span: Span) -> Iterator[None]:
    token = attach(set_span_in_context(span))
    try:
        yield
    finally:
        detach(token)


def _fail_of(span: Span) -> Fail:
    def fail(exc: BaseException, text: str | None) -> None:
        span.set_attribute("error.type", path_of(type(exc)).removeprefix("builtins."))
        span.set_status(Status(StatusCode.ERROR, text and text[:MAX_TEXT]))

    return fail


def _span_since(
    since: int,
    kind: SpanKind,
    where: str,
    attributes: Attributes,
    links: Sequence[Link],
    error: str | None = None,
) -> None:
    """Make a span of a trace of its own that is over."""
    operation = attributes["messaging.operation.name"]
    if error is not None:
        attributes["error.type"] = error
    span = _tracer().start_span(
        f"{operation} {attributes.get('messaging.destination.name', where)}",
        context=SpanScope(),
        kind=kind,
        links=links,
        attributes=attributes,
        start_time=since,
    )
    if error is not None:
        span.set_status(Status(StatusCode.ERROR))
    span.end(max(since, time.time_ns()))


def _links(messages: Sequence[Envelope]) -> list[Link]:
    links: list[Link] = []
    for message in messages:
        if not may_be_sampled(message.trace_parent):
            continue
        context = read(message.trace_parent, message.trace_state)
        if context.is_valid and context.trace_flags.sampled:
            links.append(Link(context))
            if len(links) == MAX_LINKS:
                break
    return links


def _first_failure(statuses: Sequence[str]) -> str | None:
    return next((f"{status}" for status in statuses if status != "confirmed"), None)


def _about_message(operation: str, envelope: Envelope) -> Attributes:
    return {
        "messaging.system": SYSTEM,
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.destination.name": envelope.topic,
        "messaging.message.id": envelope.id,
        "messaging.message.conversation_id": envelope.correlation_id or envelope.id,
    }


def _about_many(operation: str, system: str, messages: Sequence[Envelope]) -> Attributes:
    found: Attributes = {
        "messaging.system": system,
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.batch.message_count": len(messages),
    }
    if len(topics := {message.topic for message in messages}) == 1:
        found["messaging.destination.name"] = topics.pop()
    return found


def _within(parent: SpanContext) -> SpanScope:
    return set_span_in_context(NonRecordingSpan(parent), SpanScope())


def _tracer() -> Tracer:
    return _tracer_of(trace.get_tracer_provider())


@lru_cache(maxsize=4)
def _tracer_of(provider: TracerProvider) -> Tracer:
    return provider.get_tracer("outbox")

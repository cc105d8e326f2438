"""Where the spans begin and end: what the way of a message calls, one line each.

Unless OUTBOX["TRACING"] is on and OpenTelemetry's API can be imported, nothing is imported and
nothing done. Whatever the API, the SDK or an exporter raises is logged, and keeps no message from
its way.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from importlib import import_module
from typing import Any

from outbox.conf import has_settings, outbox_settings
from outbox.error_text import describe, log
from outbox.interrupts import is_interrupt
from outbox.message.context import Context
from outbox.message.envelope import Envelope

logger = logging.getLogger("outbox")

MAX_TOLD = 100
"""Problems that are logged, once each."""

Fail = Callable[[BaseException, str | None], None]
"""Tells a span what has failed, and the text of it that may be shown."""

_told: set[str] = set()


@cache
def available() -> bool:
    """Tell whether OpenTelemetry's API can be imported. Imports it."""
    try:
        import_module("opentelemetry.trace")
    except ImportError:
        return False
    return True


def is_on() -> bool:
    """Tell whether spans are made."""
    return has_settings() and outbox_settings().TRACING != "off" and available()


def created(envelopes: list[Envelope]) -> list[Envelope]:
    """Return messages that are about to be written, each with the trace of its `create` span."""
    if not is_on():
        return envelopes
    try:
        found: list[Envelope] = _spans().create_all(envelopes)
        return found
    except BaseException as exc:
        contain(exc)
        return envelopes


def created_task(name: str, message_id: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Return the context of a task's message, with the trace of its `create` span."""
    if not is_on():
        return fields
    try:
        envelope = Envelope(id=message_id, source="", type="", data=b"", topic=name, **fields)
        [found] = _spans().create_all([envelope], own=False)
        return fields | {"trace_parent": found.trace_parent, "trace_state": found.trace_state}
    except BaseException as exc:
        contain(exc)
        return fields


def here(context: Context) -> Context:
    """Return a context with the trace of the running span, if there is one."""
    if not is_on():
        return context
    try:
        found: Context = _spans().here(context)
        return found
    except BaseException as exc:
        contain(exc)
        return context


def sent(
    messages: Sequence[Envelope],
    statuses: Sequence[str],
    *,
    system: str,
    relay: str,
    since: int,
) -> None:
    """Make the `send` span of a page that was published, if one of its messages is sampled.

    `statuses` has "confirmed" or what went wrong, message by message; `since` is from now().
    """
    if not is_on():
        return
    try:
        _spans().send(messages, statuses, system=system, relay=relay, since=since)
    except BaseException as exc:
        contain(exc)


def received(messages: Iterable[Envelope], *, group: str | None, since: int) -> None:
    """Make the `receive` span of a batch that was committed, if one of its messages is sampled."""
    if not is_on():
        return
    try:
        _spans().receive(list(messages), group=group, since=since)
    except BaseException as exc:
        contain(exc)


def process(
    envelope: Envelope, *, handler: str, group: str, again: bool = False
) -> AbstractContextManager[Fail]:
    """Return a context that is the `process` span of a handler, which gets a way to say it failed.

    `again` for what is not handled as it comes in, which always begins a trace of its own.
    """
    if not is_on():
        return _NO_SPAN
    attributes = {"messaging.consumer.group.name": group, "outbox.handler": handler}
    return _contained(lambda: _spans().process(envelope, attributes, again=again))


def process_task(context: Context, name: str, *, again: bool) -> AbstractContextManager[Fail]:
    """Return the same for the run of a Celery task, unless OpenTelemetry's own library has one."""
    if not is_on():
        return _NO_SPAN
    envelope = Envelope(
        id=context.causation_id or "",
        source="",
        type="",
        data=b"",
        topic=name,
        correlation_id=context.correlation_id,
        trace_parent=context.trace_parent,
        trace_state=context.trace_state,
    )
    return _contained(lambda: _spans().process_task(envelope, again=again))


def now() -> int:
    """Return what the spans count from, in nanoseconds."""
    return time.time_ns()


def contain(exc: BaseException) -> None:
    """Log what was raised, once; raise a person's Ctrl-C."""
    if is_interrupt(exc):
        raise exc
    problem = describe(exc)
    if problem not in _told and len(_told) < MAX_TOLD:
        _told.add(problem)
        text = "OpenTelemetry has failed, and the message goes its way without a span: %s"
        log(logger, logging.ERROR, text, problem, exc=exc)


def _spans() -> Any:
    from outbox.tracing import spans  # noqa: PLC0415 - it imports OpenTelemetry

    return spans


def _no_fail(exc: BaseException, text: str | None) -> None:
    pass


_NO_SPAN = nullcontext(_no_fail)


@contextmanager
def _contained(make: Callable[[], AbstractContextManager[Fail]]) -> Iterator[Fail]:
    """Enter a span and leave it, whatever it raises and its block does."""
    manager: AbstractContextManager[Fail] | None = None
    fail: Fail = _no_fail
    try:
        manager = make()
        fail = manager.__enter__()
    except BaseException as exc:
        manager = None
        contain(exc)

    def failed(exc: BaseException, text: str | None) -> None:
        try:
            fail(exc, text)
        except BaseException as failure:
            contain(failure)

    try:
        yield failed
    except BaseException as exc:
        failed(exc, None)
        raise
    finally:
        try:
            if manager is not None:
                manager.__exit__(None, None, None)
        except BaseException as exc:
            contain(exc)

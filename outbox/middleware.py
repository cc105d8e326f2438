"""Let everything that a request emits and sends belong to one flow."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponseBase, StreamingHttpResponse

from outbox.conf import outbox_settings
from outbox.message.cloudevents import MAX_ATTRIBUTE, MAX_TRACE_STATE, flaw
from outbox.message.context import Context, current_context, logger, note_origin, use_context
from outbox.message.ids import uuid7_text
from outbox.message.origin import made

Answer = HttpResponseBase | Awaitable[HttpResponseBase]

_ID = re.compile(r"[!-~]+")  # what a header can carry back without being encoded
# https://www.w3.org/TR/trace-context/#traceparent-header; later versions may have more fields.
_TRACE_PARENT = re.compile(
    r"(?:00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
    r"|(?!00|ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-[!-~]*)?)"
)


class CorrelationMiddleware:
    """Gives each request a context: the ids of its flow and of its trace.

    MIDDLEWARE = ["outbox.middleware.CorrelationMiddleware", ...]

    The flow is that of the header OUTBOX["CORRELATION_HEADER"]; else that of the trace, by
    `traceparent`; else a new one. The response carries its id in the same header. What a client
    sends is validated: too long an id is cut, what is none is ignored, and both are logged.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self._get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Answer:
        context = context_of(request)
        if self._is_async:
            return self._answer(request, context)
        with use_context(context):
            response: HttpResponseBase = self._get_response(request)
            context = current_context()
        return _told(response, context)

    def process_view(self, request: HttpRequest, *_: object) -> None:
        """Note the route, which is known only now: never the path, which has ids in it.

        That stays until the context of the request ends.
        """
        note_origin(_origin(request))

    async def _answer(self, request: HttpRequest, context: Context) -> HttpResponseBase:
        with use_context(context):
            response: HttpResponseBase = await self._get_response(request)
            context = current_context()
        return _told(response, context)


def context_of(request: HttpRequest) -> Context:
    """Return the context that the headers of a request ask for, as far as they can be used."""
    trace_parent = request.headers.get("traceparent", "")[: MAX_ATTRIBUTE + 1]
    trace = _TRACE_PARENT.fullmatch(trace_parent) if len(trace_parent) <= MAX_ATTRIBUTE else None
    trace_state = request.headers.get("tracestate") or None
    if trace_state is not None and flaw(trace_state, MAX_TRACE_STATE):
        trace_state = None
    header = outbox_settings().CORRELATION_HEADER
    given = _id(request.headers.get(header), header) if header else None
    return Context(
        correlation_id=given or (trace and (trace[1] or trace[2])) or uuid7_text(),
        trace_parent=trace_parent if trace else None,
        trace_state=trace_state if trace else None,
    )


def _origin(request: HttpRequest) -> str:
    match = request.resolver_match
    if match is None:
        return made("http", f"{request.method}")
    if "admin" in match.app_names and match.url_name:
        return made("admin", match.url_name)
    return made("http", f"{request.method} {match.route}")


def _id(value: str | None, header: str) -> str | None:
    if value is None:
        return None
    found = value[:MAX_ATTRIBUTE]
    if not _ID.fullmatch(found):
        logger.warning("The %s of a request is no id, and is ignored.", header)
        return None
    if found != value:
        logger.warning("The %s of a request has %d characters; it is cut.", header, len(value))
    return found


def _told(response: HttpResponseBase, context: Context) -> HttpResponseBase:
    """Return a response that tells the id of the flow, and whose later parts belong to it too."""
    header = outbox_settings().CORRELATION_HEADER
    if header and context.correlation_id and header not in response.headers:
        response.headers[header] = context.correlation_id
    # A file is for the server to send, and emits nothing.
    if isinstance(response, StreamingHttpResponse) and not getattr(
        response, "file_to_stream", None
    ):
        within = _each_within if response.is_async else _within
        response.streaming_content = within(context, response.streaming_content)
    return response


# The context ends before each part is given out: who takes the parts is not in it.


def _within(context: Context, parts: Any) -> Iterator[bytes]:
    iterator = iter(parts)
    while True:
        with use_context(context):
            try:
                part = next(iterator)
            except StopIteration:
                return
        yield part


async def _each_within(context: Context, parts: Any) -> AsyncIterator[bytes]:
    iterator = aiter(parts)
    while True:
        with use_context(context):
            try:
                part = await anext(iterator)
            except StopAsyncIteration:
                return
        yield part

"""The middleware: everything that a request emits and sends belongs to one flow."""

import contextlib
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from celery.signals import before_task_publish
from django.db import transaction
from django.http import FileResponse, HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import AsyncClient, Client, RequestFactory, override_settings
from django.urls import path

import outbox
from outbox.celery import OutboxCelery
from outbox.message.celery_task import CORRELATION_ID, TRACE_PARENT
from outbox.message.context import Context, current_context
from outbox.middleware import CorrelationMiddleware
from outbox.models import Message
from tests.outbox.placed import Placed

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
celery = OutboxCelery("middleware", set_as_current=False, broker="memory://")


def emit(note: str = "") -> None:
    with transaction.atomic():
        outbox.emit(Placed(1, note))


def view(request: HttpRequest) -> HttpResponse:
    emit()
    with transaction.atomic():
        celery.send_task("shop.charge", (1,))
    return HttpResponse("done")


async def async_view(request: HttpRequest) -> HttpResponse:
    await sync_to_async(emit)()
    return HttpResponse("done")


def failing(request: HttpRequest) -> HttpResponse:
    emit()
    raise LookupError("no luck")


def streaming(request: HttpRequest) -> StreamingHttpResponse:
    def parts() -> Iterator[str]:
        for note in ("a", "b"):
            emit(note)
            yield note

    return StreamingHttpResponse(parts())


async def async_streaming(request: HttpRequest) -> StreamingHttpResponse:
    async def parts() -> AsyncIterator[str]:
        for note in ("a", "b"):
            await sync_to_async(emit)(note)
            yield note

    return StreamingHttpResponse(parts())


def sending(request: HttpRequest) -> HttpResponse:
    celery.send_task("shop.charge", (1,), outbox=False)
    return HttpResponse("done")


def file(request: HttpRequest) -> FileResponse:
    return FileResponse(open(__file__, "rb"))


urlpatterns = [
    path("", view),
    path("async", async_view),
    path("failing", failing),
    path("streaming", streaming),
    path("async-streaming", async_streaming),
    path("file", file),
    path("sending", sending),
]


@pytest.fixture(autouse=True)
def _served() -> Iterator[None]:
    middleware = ["outbox.middleware.CorrelationMiddleware"]
    with override_settings(ROOT_URLCONF=__name__, MIDDLEWARE=middleware):
        yield
    assert current_context() == Context()


def flows() -> set[str]:
    return set(Message.objects.values_list("correlation_id", flat=True))


def ask(address: str, asynchronous: bool, **headers: str) -> Any:
    """Ask for a page through WSGI or ASGI, and take all of it."""
    if not asynchronous:
        response = Client().get(f"/{address}", headers=headers)
        if response.streaming:
            first, *_ = response.streaming_content
            assert first
        return response

    async def work() -> Any:
        response = await AsyncClient().get(f"/{address}", headers=headers)
        if response.streaming and response.is_async:
            parts = aiter(response.streaming_content)
            await anext(parts)
            assert current_context() == Context()  # between two parts
            assert [part async for part in parts]
        return response

    return async_to_sync(work)()


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("address", ["", "async", "streaming", "async-streaming"])
def test_the_header_is_the_flow(address: str, asynchronous: bool) -> None:
    """Of all that is emitted and sent, also while a response is streamed; and is answered."""
    if address == "async-streaming" and not asynchronous:
        pytest.skip("Django warns of it")
    if address == "streaming" and asynchronous:
        pytest.skip("Django warns of it")
    response = ask(address, asynchronous, **{"X-Request-ID": "r-1"})

    assert flows() == {"r-1"}
    assert Message.objects.count() == (1 if address == "async" else 2)
    assert response.headers["X-Request-ID"] == "r-1"


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_request_that_fails_leaves_no_context(asynchronous: bool) -> None:
    with contextlib.suppress(LookupError):
        ask("failing", asynchronous, **{"X-Request-ID": "r-1"})

    assert flows() == {"r-1"}
    assert current_context() == Context()


def test_the_context_ends_between_two_parts() -> None:
    """Who takes the parts of a response is not in it."""
    response = Client().get("/streaming", headers={"X-Request-ID": "r-1"})
    seen = [current_context() for _ in response.streaming_content]

    assert seen == [Context(), Context()]
    assert flows() == {"r-1"}


def test_a_file_is_left_to_the_server() -> None:
    request = RequestFactory().get("/file", headers={"X-Request-ID": "r-1"})
    response: Any = CorrelationMiddleware(file)(request)

    assert response.file_to_stream is not None
    assert response.headers["X-Request-ID"] == "r-1"
    response.close()


def test_tasks_that_go_straight_to_the_broker_are_in_it_too() -> None:
    """By their headers, which a worker reads."""
    sent: list[dict[str, Any]] = []

    def note(headers: dict[str, Any], **_: Any) -> None:
        sent.append(headers)

    before_task_publish.connect(note)
    celery.amqp._producer_pool = None  # other tests close all pools that there are
    try:
        ask("sending", False, traceparent=PARENT, **{"X-Request-ID": "r-1"})
    finally:
        before_task_publish.disconnect(note)

    assert [(each[CORRELATION_ID], each[TRACE_PARENT]) for each in sent] == [("r-1", PARENT)]


def test_the_trace_is_the_flow_of_a_request_without_the_header() -> None:
    """And goes along with every message."""
    response = ask("", False, traceparent=PARENT, tracestate="a=1")
    messages = Message.objects.values_list("correlation_id", "trace_parent", "trace_state")

    assert set(messages) == {(TRACE, PARENT, "a=1")}
    assert response.headers["X-Request-ID"] == TRACE


def test_the_header_goes_before_the_trace() -> None:
    ask("", False, traceparent=PARENT, **{"X-Request-ID": "r-1"})

    assert set(Message.objects.values_list("correlation_id", "trace_parent")) == {("r-1", PARENT)}


def test_a_request_without_ids_gets_one() -> None:
    """One for all that it emits, another for the next request."""
    one, other = ask("", False), ask("", False)

    assert flows() == {one.headers["X-Request-ID"], other.headers["X-Request-ID"]}
    assert len(flows()) == 2


@pytest.mark.parametrize(
    "parent",
    [
        *("", "x", PARENT.upper(), f"ff{PARENT[2:]}", f"{PARENT}-00", PARENT[:-1], PARENT + "é"),
        *(f"00-{'0' * 32}-00f067aa0ba902b7-01", f"00-{TRACE}-{'0' * 16}-01", f"cc{PARENT[2:]}x"),
        f"cc{PARENT[2:]}-{'x' * 1000}",
    ],
)
def test_a_malformed_trace_is_ignored(parent: str) -> None:
    ask("", False, traceparent=parent, tracestate="a=1")

    assert set(Message.objects.values_list("trace_parent", "trace_state")) == {(None, None)}


def test_a_trace_of_a_later_version_is_carried() -> None:
    later = f"cc{PARENT[2:]}-what-comes"
    ask("", False, traceparent=later)

    assert set(Message.objects.values_list("correlation_id", "trace_parent")) == {(TRACE, later)}


@pytest.mark.parametrize(
    ("value", "flow"),
    [
        ("x" * 300, "x" * 255),
        ("", None),
        ("a b", None),
        ("a\x00", None),
        ("é", None),
        ("\x1b[31m", None),
    ],
)
def test_what_is_no_id_is_cut_or_ignored(
    value: str, flow: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    """With a warning that does not repeat it; the request is served as any other."""
    with caplog.at_level(logging.WARNING, logger="outbox"):
        response = ask("", False, **{"X-Request-ID": value})

    assert response.status_code == 200
    [found] = flows()
    assert found == response.headers["X-Request-ID"]
    assert found == flow if flow else found != value
    assert "X-Request-ID" in caplog.text
    assert not value or value not in caplog.text


def test_another_header_or_none() -> None:
    with override_settings(OUTBOX={"CORRELATION_HEADER": "Correlation-ID"}):
        response = ask("", False, **{"Correlation-ID": "c-1", "X-Request-ID": "r-1"})
    assert flows() == {"c-1"}
    assert response.headers["Correlation-ID"] == "c-1"
    with override_settings(OUTBOX={"CORRELATION_HEADER": ""}):
        response = ask("", False, **{"X-Request-ID": "r-1"})
    assert "r-1" not in flows()
    assert "X-Request-ID" not in response.headers


@pytest.mark.parametrize("name", ["X_Request", "a b", "é", "x" * 101])
def test_a_header_that_cannot_be_one_is_a_setting_error(name: str) -> None:
    with (
        override_settings(OUTBOX={"CORRELATION_HEADER": name}),
        pytest.raises(outbox.ConfigurationError, match="CORRELATION_HEADER"),
        transaction.atomic(),
    ):
        outbox.emit(Placed(1))

"""The trace on its way through Celery, with the outbox and without."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery import Celery
from django.db import transaction
from opentelemetry import trace

from outbox.message.context import use_context
from outbox.models import Message
from project.demo.waiting import wait_until
from tests.kit.embedded_worker import embedded_worker
from tests.kit.spans import Spans, attributes_of, id_of, linked, parent_of, recording, trace_of
from tests.outbox.celery.support import new_app, written

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]

OWN = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
through = new_app()
direct = Celery("direct", broker="memory://", set_as_current=False)
direct.conf.update(task_default_queue="traced", worker_hijack_root_logger=False)
ran: list[int] = []


@through.task(name="tests.traced", shared=False)
def traced() -> None: ...


@direct.task(name="tests.looked", shared=False)
def looked() -> int:
    return trace.get_current_span().get_span_context().span_id


@direct.task(name="tests.tried", shared=False, bind=True, max_retries=1, default_retry_delay=0)
def tried(self: Any) -> None:
    ran.append(self.request.retries)
    raise self.retry(exc=ValueError("no luck"))


@pytest.fixture
def worker() -> Iterator[None]:
    with embedded_worker(direct):
        yield


def parts(span: Any) -> str:
    return f"00-{trace_of(span):032x}-{id_of(span):016x}"


def test_a_task_through_the_outbox_has_a_create(spans: Spans) -> None:
    """Child of the running span; log and headers have its context."""
    with spans.tracer.start_as_current_span("request") as request, transaction.atomic():
        traced.delay()
    create = spans.one("create tests.traced")
    assert parent_of(create) == request.get_span_context().span_id
    [task] = written()
    assert task.headers["traceparent"].startswith(parts(create))
    row = Message.objects.get()
    assert row.trace_parent == task.headers["traceparent"]
    assert attributes_of(create)["messaging.message.id"] == str(row.message_id)


def test_the_running_span_goes_before_the_context(spans: Spans) -> None:
    """In a handler that has the trace of its message, and tells of its own span."""
    with (
        use_context(trace_parent=OWN),
        spans.tracer.start_as_current_span("handler") as handler,
        transaction.atomic(),
    ):
        traced.delay()
    assert parent_of(spans.one("create")) == handler.get_span_context().span_id


def test_a_header_of_the_callers_is_the_parent(spans: Spans) -> None:
    """He may know better whose work it is."""
    with spans.tracer.start_as_current_span("request"), transaction.atomic():
        traced.apply_async(headers={"traceparent": OWN})
    create = spans.one("create tests.traced")
    assert f"{trace_of(create):032x}" == OWN[3:35]
    assert written()[0].headers["traceparent"].startswith(parts(create))


def test_a_task_within_its_caller_has_no_span(spans: Spans) -> None:
    """It runs in the caller's."""
    with spans.tracer.start_as_current_span("request") as request:
        assert looked.apply().get() == request.get_span_context().span_id
    assert spans.names == ["request"]


@pytest.mark.slow
@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("tracing", ["link", "parent"])
def test_a_task_to_the_broker_brings_the_trace_along(
    monkeypatch: pytest.MonkeyPatch, settings: Any, tracing: str
) -> None:
    """Of the span that sends it. One to be run later, and another attempt, link in any case."""
    ran.clear()
    with recording(monkeypatch, settings, tracing=tracing) as spans:
        with spans.tracer.start_as_current_span("request"):
            looked.delay()
            looked.apply_async(eta=datetime.now(UTC) - timedelta(seconds=1))
            tried.delay()
        assert wait_until(lambda: len(spans.of("process")) == 4, 60)
    request = spans.one("request")
    now, later, first, second = sorted(
        spans.of("process"), key=lambda span: (span.name, span.start_time or 0)
    )
    if tracing == "parent":
        assert [parent_of(each) for each in (now, first)] == [id_of(request)] * 2
    else:
        assert [linked(each) for each in (now, first)] == [[id_of(request)]] * 2
        assert (now.parent, first.parent) == (None, None)
    for each in (later, second):
        assert each.parent is None
        assert len(each.links) == 1
    assert ran == [0, 1]
    assert spans.unreachable(request) == []
    assert attributes_of(first)["error.type"].endswith("Retry")
    assert attributes_of(second)["error.type"] == "ValueError"
    assert "error.type" not in attributes_of(now)

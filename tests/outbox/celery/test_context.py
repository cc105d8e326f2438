"""The context that goes with tasks."""

from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery

from outbox.celery.context import context_of, headers_of
from outbox.message.context import Context, current_context, use_context

app = Celery("context", broker="memory://", set_as_current=False)


@app.task(shared=False)
def seen() -> Context:
    return current_context()


def request(**values: Any) -> Any:
    return SimpleNamespace(
        **{"headers": None, "root_id": "r", "id": "t", "task": "n", "is_eager": False} | values
    )


def test_a_plain_task_starts_a_conversation() -> None:
    """The flow is that of its root task, the cause the task itself."""
    assert context_of(request()) == Context(correlation_id="r", causation_id="t", origin="task:n")


def test_headers_say_whose_work_it_is() -> None:
    """The flow, the trace, and the message that has become the task."""
    headers = {
        "outbox_correlation_id": "flow",
        "outbox_causation_id": "what led to the message",
        "outbox_message_id": "m",
        "traceparent": "00-a-b-01",
        "tracestate": "x=y",
    }
    assert context_of(request(headers=headers)) == Context(
        correlation_id="flow",
        causation_id="m",
        trace_parent="00-a-b-01",
        trace_state="x=y",
        origin="task:n",
    )


@pytest.mark.parametrize("value", ["", "a\x00b", "x" * 256, 7, ["flow"]])
def test_a_header_that_no_event_could_carry_is_left_out(value: object) -> None:
    """Anybody may have written it; it must not keep the task from emitting."""
    headers = {"outbox_correlation_id": value, "outbox_message_id": value, "traceparent": value}
    assert context_of(request(headers=headers)) == Context(
        correlation_id="r", causation_id="t", origin="task:n"
    )


def test_a_task_within_its_caller_is_in_the_flow_of_that() -> None:
    """Run eagerly, it has no headers; afterwards the caller's context is as it was."""
    with use_context(correlation_id="flow", causation_id="m") as around:
        found = seen.apply(task_id="t").get()
        assert current_context() == around
    assert found == Context(correlation_id="flow", causation_id="t", origin=f"task:{seen.name}")


def test_what_is_sent_has_the_headers_of_the_context() -> None:
    """Those that the sender has given himself stand."""
    with (
        app.connection_for_write() as connection,
        use_context(correlation_id="f", causation_id="c"),
    ):
        seen.apply_async(connection=connection, queue="q")
        seen.apply_async(connection=connection, queue="q", headers={"outbox_causation_id": "own"})
        queue = connection.SimpleQueue("q")
        headers = [queue.get(timeout=5).headers for _ in range(2)]

    assert [each["outbox_correlation_id"] for each in headers] == ["f", "f"]
    assert [each["outbox_causation_id"] for each in headers] == ["c", "own"]
    assert "traceparent" not in headers[0]


def test_no_context_no_headers() -> None:
    """Outside of any work nothing is added."""
    assert dict(headers_of(Context())) == {}

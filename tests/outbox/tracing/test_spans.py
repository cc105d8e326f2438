"""The spans of one message: where they stand, and what they say."""

import time
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, TraceIdRatioBased
from opentelemetry.trace import SpanKind, StatusCode

import outbox
from outbox.message.envelope import Envelope
from outbox.models import Message
from outbox.tracing.sampling import FollowLinks
from relay.brokers.base import Status
from relay.log import open_log
from relay.schedule import Schedule
from relay.transfer import transfer
from tests.inbox.support import Handling, Mended, fail, happened, make_due, receive, turn
from tests.kit.database import statements
from tests.kit.spans import (
    Spans,
    attributes_of,
    id_of,
    linked,
    parent_of,
    recording,
    trace_of,
)
from tests.kit.support import Counted, RecordingBroker

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-00"


@pytest.fixture(autouse=True)
def _one_lane(settings: Any) -> None:
    settings.OUTBOX = {**settings.OUTBOX, "LANES": 1}


def emit(key: str = "k", **options: Any) -> Envelope:
    with transaction.atomic():
        return outbox.emit(Counted(key, 1), **options)


def publish(broker: RecordingBroker | None = None) -> RecordingBroker:
    broker = broker or RecordingBroker()
    log = open_log("mine", using="default", start="beginning")
    while log.lanes_with_work(1):
        transfer(log, broker, 0, 100)
    return broker


# --- create -------------------------------------------------------------------------------------


def test_create_is_a_child_of_the_running_span(spans: Spans) -> None:
    """Its context is what the message, the log and the wire have, whatever a relay does."""
    with spans.tracer.start_as_current_span("request") as request:
        message = emit()
    create = spans.one("create tests.counted")
    assert create.kind is SpanKind.PRODUCER
    assert parent_of(create) == request.get_span_context().span_id
    assert attributes_of(create) == {
        "messaging.system": "outbox",
        "messaging.operation.name": "create",
        "messaging.operation.type": "create",
        "messaging.destination.name": "tests.counted",
        "messaging.message.id": message.id,
        "messaging.message.conversation_id": message.correlation_id,
    }
    wire = f"00-{trace_of(create):032x}-{id_of(create):016x}"
    assert (message.trace_parent or "").startswith(wire)
    assert Message.objects.get().trace_parent == message.trace_parent
    [published] = publish().published
    assert published.trace_parent == message.trace_parent


def test_create_continues_the_trace_of_the_context(spans: Spans) -> None:
    """Where there is no running span, as behind CorrelationMiddleware alone."""
    with outbox.use_context(trace_parent=SAMPLED, trace_state="a=b"):
        message = emit()
    create = spans.one("create")
    assert f"{trace_of(create):032x}" == TRACE
    assert f"{parent_of(create):016x}" == SPAN
    assert message.trace_state == "a=b"


def test_many_have_a_span_each(spans: Spans) -> None:
    """All of them children of the running one, as each is linked to by itself."""
    with spans.tracer.start_as_current_span("request"), transaction.atomic():
        messages = outbox.emit_many([Counted("k", number) for number in range(3)])
    assert len({message.trace_parent for message in messages}) == 3
    assert len(spans.of("create")) == 3


@pytest.mark.parametrize("parent", [UNSAMPLED, None])
def test_what_is_not_sampled_goes_along_and_makes_no_span(
    monkeypatch: pytest.MonkeyPatch, settings: Any, handling: Handling, parent: str | None
) -> None:
    """Neither here nor in the relay nor in the handler, nor by what that emits."""
    seen: list[Envelope] = []
    handling(lambda event, message: seen.append(emit()), pattern="tests.counted")
    sampler = FollowLinks(ALWAYS_OFF)
    with recording(monkeypatch, settings, ParentBased(sampler)) as spans:
        with outbox.use_context(trace_parent=parent):
            message = emit()
        publish()
        receive(message)
    assert spans.names == []
    for each in (message, *seen):
        # Beside "sampled" the last digit may say that the id is random.
        assert int((each.trace_parent or "")[-2:], 16) & 1 == 0
    if parent is not None:
        assert message.trace_parent == UNSAMPLED
        assert (seen[0].trace_parent or "")[:35] == f"00-{TRACE}"


# --- send ---------------------------------------------------------------------------------------


def test_send_is_one_span_of_a_page(spans: Spans) -> None:
    """In a trace of its own, linked to what it has sent."""
    with transaction.atomic():
        outbox.emit_many([Counted(str(number), number) for number in range(3)])
    publish()
    send = spans.one("send")
    assert send.name == "send tests.counted"
    assert send.kind is SpanKind.CLIENT
    assert send.parent is None
    assert sorted(linked(send)) == sorted(id_of(span) for span in spans.of("create"))
    assert attributes_of(send) == {
        "messaging.system": "outbox",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.destination.name": "tests.counted",
        "messaging.batch.message_count": 3,
        "outbox.relay": "mine",
    }
    assert send.status.status_code is StatusCode.UNSET


def test_a_page_links_to_no_more_than_128(spans: Spans) -> None:
    """Of which the unsampled ones take no place, and only the sampled make a span at all."""
    with outbox.use_context(trace_parent=UNSAMPLED):
        emit()
    publish()
    assert spans.of("send") == []
    with outbox.use_context(trace_parent=UNSAMPLED), transaction.atomic():
        outbox.emit_many([Counted(str(number), number) for number in range(10)])
    with transaction.atomic():
        outbox.emit_many([Counted(str(number), number) for number in range(140)])
    log = open_log("mine", using="default", start="beginning")
    transfer(log, RecordingBroker(), 0, 1000)
    send = spans.one("send")
    assert len(send.links) == 128
    assert attributes_of(send)["messaging.batch.message_count"] == 150
    created = {id_of(span) for span in spans.of("create")}
    assert set(linked(send)) <= created


def test_a_page_of_several_topics_bears_the_name_of_the_relay(
    spans: Spans, handling: Handling
) -> None:
    """A name has few values, and no destination is that of all."""
    with transaction.atomic():
        outbox.emit(Counted("a", 1))
        outbox.emit("tests.happened", {"key": "k", "number": 1}, key="k")
    publish()
    send = spans.one("send")
    assert send.name == "send mine"
    assert "messaging.destination.name" not in attributes_of(send)


def test_what_is_refused_is_an_error_of_send(spans: Spans) -> None:
    """By its status; what waits behind it was not sent, and is not counted."""
    refused, _ = emit(), emit()
    broker = RecordingBroker()
    broker.refuse[refused.id] = Status.UNROUTABLE
    publish(broker)
    send = spans.one("send")
    assert attributes_of(send)["error.type"] == "unroutable"
    assert attributes_of(send)["messaging.batch.message_count"] == 1
    assert send.status.status_code is StatusCode.ERROR


# --- receive, process ---------------------------------------------------------------------------


def test_process_is_linked_to_create(spans: Spans, handling: Handling) -> None:
    """One span of each handler, in a trace of its own; what it emits is its child."""
    seen: list[Envelope] = []

    def follow(event: Counted, message: Envelope) -> None:
        if event.number == 1:
            seen.append(emit_number(2))

    handling(follow, pattern="tests.counted")
    message = emit()
    receive(message)
    create, process = spans.of("create")[0], spans.one("process")
    assert process.name == "process tests.counted"
    assert process.kind is SpanKind.CONSUMER
    assert process.parent is None
    assert trace_of(process) != trace_of(create)
    assert linked(process) == [id_of(create)]
    assert attributes_of(process) == {
        "messaging.system": "outbox",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "tests.counted",
        "messaging.message.id": message.id,
        "messaging.message.conversation_id": message.correlation_id,
        "messaging.consumer.group.name": "g",
        "outbox.handler": "record",
    }
    second = spans.of("create")[1]
    assert parent_of(second) == id_of(process)
    assert seen[0].causation_id == message.id


def emit_number(number: int) -> Envelope:
    with transaction.atomic():
        return outbox.emit(Counted("k", number))


def test_receive_is_one_span_of_a_batch(spans: Spans, handling: Handling) -> None:
    """With what is sampled of it; a batch of which nothing is has none."""
    handling(pattern="tests.counted")
    receive(happened(type="tests.counted", trace_parent=UNSAMPLED))
    assert spans.names == []
    receive(emit(), emit(key="l"))
    span = spans.one("receive")
    assert span.name == "receive tests.counted"
    assert sorted(linked(span)) == sorted(id_of(each) for each in spans.of("create"))
    about = attributes_of(span)
    assert about["messaging.batch.message_count"] == 2
    assert about["messaging.consumer.group.name"] == "g"
    for process in spans.of("process"):
        assert process.start_time is not None
        assert span.start_time is not None
        assert span.end_time is not None
        assert span.start_time <= process.start_time <= span.end_time


def test_what_a_handler_raises_is_the_error_of_its_span(spans: Spans, handling: Handling) -> None:
    """Its type, and the text that the receipt has."""
    handling(fail, pattern="tests.counted")
    receive(emit())
    process = spans.one("process")
    assert attributes_of(process)["error.type"] == "ValueError"
    assert process.status.status_code is StatusCode.ERROR
    assert process.status.description == "ValueError: no luck"


def test_a_secret_in_an_error_is_not_in_the_span(spans: Spans, handling: Handling) -> None:
    """What the receipt masks is masked."""

    def leak(event: Any, message: Envelope) -> None:
        raise ValueError("password=hunter2")

    handling(leak, pattern="tests.counted")
    receive(emit())
    assert "hunter2" not in str(spans.one("process").to_json())


@pytest.mark.parametrize("tracing", ["link", "parent"])
def test_another_attempt_begins_a_trace_of_its_own(
    monkeypatch: pytest.MonkeyPatch, settings: Any, handling: Handling, tracing: str
) -> None:
    """Linked to the same create, also where the first attempt is its child."""
    handling(Mended(), pattern="tests.counted")
    with recording(monkeypatch, settings, tracing=tracing) as spans:
        receive(emit())
        make_due()
        assert turn().handled == 1
    create = spans.one("create")
    first, second = spans.of("process")
    assert parent_of(first) == (id_of(create) if tracing == "parent" else None)
    assert "error.type" in attributes_of(first)
    assert second.parent is None
    assert linked(second) == [id_of(create)]
    assert len({trace_of(span) for span in (create, first, second)}) == (
        2 if tracing == "parent" else 3
    )


def test_as_a_parent_where_the_settings_say_so(
    monkeypatch: pytest.MonkeyPatch, settings: Any, handling: Handling
) -> None:
    """One trace from the request to the handler, and no link."""
    handling(pattern="tests.counted")
    with recording(monkeypatch, settings, tracing="parent") as spans:
        receive(emit())
    create, process = spans.one("create"), spans.one("process")
    assert parent_of(process) == id_of(create)
    assert trace_of(process) == trace_of(create)
    assert process.links == ()


@pytest.mark.parametrize(
    ("delay", "age"), [(timedelta(seconds=5), timedelta(0)), (None, timedelta(minutes=2))]
)
def test_what_comes_late_is_linked_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
    settings: Any,
    handling: Handling,
    delay: timedelta | None,
    age: timedelta,
) -> None:
    """A message that was to be delivered later, and one that is two minutes old: no trace lasts
    that long."""
    handling(pattern="tests.counted")
    from outbox.tracing import spans as module  # noqa: PLC0415 - it imports OpenTelemetry

    if age:
        monkeypatch.setattr(module, "SHORT_FLOW", -age)
    with recording(monkeypatch, settings, tracing="parent") as spans:
        message = emit(delay=delay) if delay else emit()
        receive(message)
    process = spans.one("process")
    assert process.parent is None
    assert linked(process) == [id_of(spans.one("create"))]


def test_a_message_from_elsewhere_without_a_trace(spans: Spans, handling: Handling) -> None:
    """Its handler's span begins one, and links to nothing."""
    handling()
    receive(happened())
    process = spans.one("process")
    assert process.parent is None
    assert process.links == ()
    assert spans.of("receive") == []


def test_what_is_linked_to_a_sampled_span_is_sampled(
    monkeypatch: pytest.MonkeyPatch, settings: Any, handling: Handling
) -> None:
    """With FollowLinks; a ratio alone would keep a tenth of the tenth."""
    handling(pattern="tests.counted")
    for follow in (True, False):
        ratio = TraceIdRatioBased(0)
        sampler = ParentBased(FollowLinks(ratio) if follow else ratio)
        with recording(monkeypatch, settings, sampler) as spans:
            with outbox.use_context(trace_parent=SAMPLED):
                message = emit()
            publish()
            receive(message)
        operations = sorted(name.split()[0] for name in spans.names)
        assert operations == (["create", "process", "receive", "send"] if follow else ["create"])


# --- what it costs ------------------------------------------------------------------------------


@pytest.mark.usefixtures("on_disk_at_once")
def test_it_takes_no_statement(
    monkeypatch: pytest.MonkeyPatch, settings: Any, handling: Handling
) -> None:
    """Neither to emit nor to publish nor to handle."""
    handling(pattern="tests.counted")

    def work() -> None:
        message = emit()
        publish()
        receive(message)

    def kinds() -> list[str]:
        return [each.split()[0] for each in statements(work)]

    work()
    off = [kinds() for _ in range(5)]
    with recording(monkeypatch, settings) as spans:
        on = [kinds() for _ in range(5)]
    assert len(spans.all) == 4 * len(on)
    assert min(on, key=len) == min(off, key=len)


def test_a_page_in_which_none_is_sampled_is_not_read(
    monkeypatch: pytest.MonkeyPatch, spans: Spans
) -> None:
    """A glance at each message is all; nothing is made of it."""
    from outbox.tracing import spans as module  # noqa: PLC0415 - it imports OpenTelemetry

    with outbox.use_context(trace_parent=UNSAMPLED), transaction.atomic():
        outbox.emit_many([Counted(str(number), number) for number in range(50)])
    read: list[object] = []
    monkeypatch.setattr(module, "read", lambda *given: read.append(given))
    assert len(publish().published) == 50
    assert read == []
    assert spans.names == []


def test_a_glance_is_not_all(spans: Spans, handling: Handling) -> None:
    """What looks as if it was sampled is read: behind a blank the digit is another one."""
    handling()
    receive(happened(trace_parent=f" 00-{TRACE}-{SPAN}-10"))
    assert spans.names == []


def test_a_scheduled_message_is_linked_when_it_comes(
    monkeypatch: pytest.MonkeyPatch, settings: Any, handling: Handling
) -> None:
    """Through its table, the log and a relay: the create is that of when it was emitted."""
    handling(pattern="tests.counted")
    with recording(monkeypatch, settings, tracing="parent") as spans:
        with spans.tracer.start_as_current_span("request"):
            emit(delay=1.2)
        create = spans.one("create")
        time.sleep(1.3)  # the delay itself is what is tested
        Schedule("default").deliver()
        [message] = publish().published
        receive(message)
    process = spans.one("process")
    assert trace_of(create) == trace_of(spans.one("request"))
    assert trace_of(process) != trace_of(create)
    assert linked(process) == [id_of(create)]
    assert linked(spans.one("send")) == [id_of(create)]

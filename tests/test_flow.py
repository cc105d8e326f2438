"""What `manage.py flow show` tells of messages that were really emitted, published and handled."""

import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

import outbox
from inbox.handlers.registry import Handler, handlers
from inbox.models import DeadLetter, Receipt
from outbox.flow.loading import load, load_topology
from outbox.message.celery_task import CONTENT_TYPE, TASK_SOURCE, TASK_TYPE
from outbox.message.envelope import Envelope
from outbox.models import Message
from relay.brokers.base import Status
from relay.log import open_log
from relay.transfer import transfer
from tests.inbox.support import happened, receive
from tests.kit.support import Counted, RecordingBroker

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]


@pytest.fixture(autouse=True)
def settings() -> Iterator[None]:
    relays = {"mine": {"BACKEND": "relay.brokers.local.LocalBroker"}}
    with override_settings(OUTBOX={"LANES": 1}, RELAYS=relays):
        yield


@pytest.fixture
def handle() -> Iterator[Callable[..., None]]:
    """Registers a handler of tests.counted and forgets it after the test."""
    names = []

    def handle(name: str, function: Callable[[Any, Envelope], object], **options: Any) -> None:
        options = {"pattern": "tests.counted", "declared_group": "g"} | options
        handlers.add(Handler(name=name, function=function, **options))
        names.append(name)

    yield handle
    for name in names:
        handlers.remove(name)


def emit(key: str = "42", number: int = 0, **options: Any) -> Envelope:
    with transaction.atomic():
        return outbox.emit(Counted(key, number), **options)


def publish(broker: RecordingBroker) -> None:
    log = open_log("mine", using="default", start="beginning")
    while log.lanes_with_work(1):
        transfer(log, broker, 0, 100)


def show(*arguments: str, **options: Any) -> list[str]:
    out = StringIO()
    call_command("flow", "show", *arguments, stdout=out, **options)
    return out.getvalue().splitlines()


def test_from_the_order_to_what_has_failed(handle: Callable[..., None]) -> None:
    """Emitted, published, handled by two groups: one causes more, and one fails."""

    def follow(event: Counted, message: Envelope) -> None:
        if event.number == 0:
            outbox.emit(Counted(event.key, 1))

    def fail(event: Counted, message: Envelope) -> None:
        raise ValueError("no\nmoney")

    handle("tests.invoice", follow)
    handle("tests.ship", fail, declared_group="h")
    root = emit()
    receive(root, group="g")
    receive(root, group="h")
    broker = RecordingBroker()
    publish(broker)
    child = broker.published[1]

    for name in (root.id, child.id):  # by any of its messages
        lines = show(name)
        assert lines[0] == f"Conversation {root.id}: 2 messages"
        assert lines[1].startswith("└─ tests.counted  42  from /")
        assert lines[1].endswith(root.id)
        assert lines[2] == "   │ ✓ mine: published"
        assert lines[3].startswith("   │ ✓ tests.invoice: processed  20")
        assert lines[4].startswith("   │ … tests.ship: retrying  20")
        assert lines[4].endswith("ValueError: no money")
        assert lines[5].endswith(child.id)
        assert lines[6] == "        ✓ mine: published"
        assert len(lines) == 7

    assert show("--key", "42") == show(root.id)
    assert show(root.id, "--mermaid")[0] == "sequenceDiagram"


def test_what_the_broker_refuses(handle: Callable[..., None]) -> None:
    """And what waits behind it, and what nobody has published yet."""
    root = emit()
    broker = RecordingBroker()
    broker.refuse[root.id] = Status.REFUSED
    with outbox.use_context(correlation_id=root.id, causation_id=root.id):
        emit(number=1)
    publish(broker)
    with outbox.use_context(correlation_id=root.id, causation_id=root.id):
        emit(key="other", number=2)

    lines = show(root.id)
    states = [line.split(":")[1].split()[0] for line in lines if " mine: " in line]
    assert states == ["parked", "waiting", "pending"]


def test_what_another_service_has_sent(handle: Callable[..., None]) -> None:
    """It is known by its receipts, and what it caused here stands below it."""
    handle("tests.invoice", lambda event, message: outbox.emit(Counted("k", 7)))
    message = happened(type="tests.counted", topic="tests.counted", correlation_id="their flow")
    receive(message)

    for name in ("their flow", message.id):
        lines = show(name)
        assert lines[0] == "Conversation their flow: 2 messages"
        assert lines[1] == f"└─ tests.counted  from /elsewhere  {message.id}"
        assert lines[3].startswith("   └─ tests.counted  k  from /")


def test_a_message_that_nobody_could_use() -> None:
    """A dead letter of one group, and it waits for a person."""
    root = emit()
    DeadLetter.objects.create(
        group="g",
        reason=DeadLetter.Reason.UNKNOWN_VERSION,
        error="no handler for version 9",
        source=root.source,
        message_id=root.id,
        type=root.type,
        headers="{}",
        body=b"",
        digest="0" * 64,
    )
    lines = show(root.id)

    assert lines[0] == f"Conversation {root.id}: 1 message, 1 failed"
    assert lines[-1].startswith("     ✗ g: dead")
    assert lines[-1].endswith("no handler for version 9")


def test_a_key_of_several_conversations() -> None:
    """They are listed, the newest first."""
    first, second = emit(), emit()

    lines = show("--key", "42")
    assert [line.split()[0] for line in lines[1:]] == [second.id, first.id]


def test_more_than_is_read() -> None:
    """Is said, and what came first is shown."""
    root = emit()
    with outbox.use_context(correlation_id=root.id, causation_id=root.id):
        for number in range(5):
            emit(number=number)

    lines = show(root.id, "--limit", "3")
    assert lines[:2] == [
        f"Conversation {root.id}: 3 messages",
        "There are more: these are the first 3.",
    ]


def test_what_is_cut_off_is_nobody_elses(handle: Callable[..., None]) -> None:
    """Receipts of messages beyond the limit do not come back as messages of other services."""
    handle("tests.invoice", lambda event, message: None)
    root = emit()
    receive(root)
    with outbox.use_context(correlation_id=root.id, causation_id=root.id):
        for number in range(5):
            receive(emit(number=number))

    lines = show(root.id, "--limit", "3", "--unfold")
    assert lines[:2] == [
        f"Conversation {root.id}: 3 messages",
        "There are more: these are the first 3.",
    ]
    assert sum("from /" in line for line in lines) == 3


def test_what_is_dead_is_read_before_what_is_over() -> None:
    """However many receipts there are; and that there are more is said."""
    root = emit()
    about = {"source": root.source, "message_id": root.id, "correlation_id": root.id}
    for number in range(5):
        Receipt.objects.create(handler=f"h{number}", type=root.type, **about)
    Receipt.objects.create(handler="last", type=root.type, state="dead", **about)

    lines = show(root.id, "--limit", "3")
    assert lines[:2] == [
        f"Conversation {root.id}: 1 message, 1 failed",
        "There are more: these are the first 3.",
    ]
    assert any(" ✗ last: dead" in line for line in lines)


def test_a_message_of_another_service_without_a_correlation_id(
    handle: Callable[..., None],
) -> None:
    """Its own id stands for it; what it caused is below it."""
    handle("tests.invoice", lambda event, message: outbox.emit(Counted("k", 7)))
    message = happened(type="tests.counted", topic="tests.counted")
    receive(message)

    lines = show(message.id)
    assert lines[0] == f"Conversation {message.id}: 2 messages"
    assert lines[1] == f"└─ tests.counted  from /elsewhere  {message.id}"
    assert lines[3].startswith("   └─ tests.counted  k  from /")


def letter(**options: Any) -> DeadLetter:
    about: dict[str, Any] = {"group": "g", "reason": "unknown_type", "error": "no handler"}
    about |= {"headers": "{}", "body": b"", "digest": uuid.uuid4().hex}
    return DeadLetter.objects.create(**about | options)


def test_a_dead_letter_of_another_service() -> None:
    """That is the ordinary one; it is found by its id."""
    letter(message_id="theirs", source="/elsewhere", type="x.done")

    lines = show("theirs")
    assert lines[0] == "Conversation theirs: 1 message, 1 failed"
    assert lines[1] == "└─ x.done  from /elsewhere  theirs"


def test_a_strangers_letter_with_our_id() -> None:
    """An id is unique within its source only: it is not our message that failed."""
    root = emit()
    letter(message_id=root.id, source="/stranger", type="x.done")

    assert show(root.id)[0] == f"Conversation {root.id}: 1 message"


def test_a_message_cannot_take_the_name_of_a_conversation() -> None:
    """Anybody may choose an id; that there is such a message is said."""
    with outbox.use_context(correlation_id="flow-1"):
        emit()
    Receipt.objects.create(
        handler="h", source="/evil", message_id="flow-1", type="x", correlation_id="their flow"
    )
    err = StringIO()

    assert show("flow-1", stderr=err)[0] == "Conversation flow-1: 1 message"
    assert err.getvalue().strip() == "The message flow-1 belongs to another one: their flow"


def test_secrets_of_errors_are_not_shown() -> None:
    """Of receipts from before they were masked, either."""
    root = emit()
    Receipt.objects.create(
        handler="h",
        source=root.source,
        message_id=root.id,
        type=root.type,
        correlation_id=root.id,
        state="dead",
        error="ValueError: password=hunter2",
    )
    text = "\n".join(show(root.id))

    assert "ValueError: password=" in text
    assert "hunter2" not in text


def test_a_relay_that_has_gone_owes_nothing() -> None:
    """It was renamed or removed, and what came later is not pending for it."""
    first = emit()
    publish(RecordingBroker())
    later = emit()
    with override_settings(RELAYS={"other": {"BACKEND": "relay.brokers.local.LocalBroker"}}):
        assert [line.strip() for line in show(later.id)[2:]] == ["… other: pending"]
        assert "✓ mine: published" in "\n".join(show(first.id))


def test_a_task_with_a_key_of_its_own() -> None:
    """Its id stands in the subject then; its receipt is that of the message."""
    [message] = Message.objects.bulk_create(
        [
            Message(
                message_id=uuid.uuid4(),
                type=TASK_TYPE,
                version=1,
                source="/shop",
                topic="shop.tasks.charge",
                key="42",
                subject="task-1",
                time=datetime.now(UTC),
                correlation_id="tasks",
                content_type=CONTENT_TYPE,
                data=b"",
                lane=0,
            )
        ]
    )
    Receipt.objects.create(
        handler="charge",
        source=TASK_SOURCE,
        message_id="task-1",
        type=TASK_TYPE,
        correlation_id="tasks",
    )
    lines = show("tasks")

    assert lines[0] == "Conversation tasks: 1 message"
    assert lines[1].startswith("└─ shop.tasks.charge  42  from /shop")
    assert lines[1].endswith(str(message.message_id))
    assert lines[-1].startswith("     ✓ charge: processed")


@pytest.mark.parametrize("arguments", [["unknown"], [str(uuid.uuid4())], ["--key", "unknown"]])
def test_nothing_of_the_name(arguments: list[str]) -> None:
    """Says so, and what was looked for."""
    with pytest.raises(CommandError, match=arguments[-1]):
        show(*arguments)


@pytest.mark.parametrize("arguments", [[], ["a", "--key", "b"], ["a", "--limit", "0"]])
def test_wrong_arguments(arguments: list[str]) -> None:
    """Are refused before anything is read."""
    with pytest.raises(CommandError):
        show(*arguments)


def test_the_statements_do_not_grow(handle: Callable[..., None]) -> None:
    """As many for 900 messages as for one, three more for each thousand; no data is read."""

    def statements() -> list[str]:
        with CaptureQueriesContext(connection) as captured:
            load(root.id, "default")
        return [each["sql"] for each in captured.captured_queries]

    root = emit()
    Receipt.objects.create(handler="h", source="/x", message_id="1", correlation_id=root.id)
    few = statements()
    with outbox.use_context(correlation_id=root.id, causation_id=root.id), transaction.atomic():
        outbox.emit_many([Counted("k", n) for n in range(900)])

    many = statements()
    assert len(many) == len(few) <= 8
    with outbox.use_context(correlation_id=root.id, causation_id=root.id), transaction.atomic():
        outbox.emit_many([Counted("k", n) for n in range(900)])
    more = statements()
    assert len(more) == len(few) + 3
    assert not any('"data"' in each or '"body"' in each for each in (*few, *more))


class TestTopology:
    """What `manage.py flow topology` tells."""

    def test_declared_and_seen(self, handle: Callable[..., None]) -> None:
        """Who handles an event, what it causes, and what nobody has declared."""

        def follow(event: Counted, message: Envelope) -> None:
            if event.number == 0:
                outbox.emit(Counted(event.key, 1))

        handle("tests.invoice", follow)
        for envelope in (emit(), happened(type="tests.counted", topic="tests.counted")):
            receive(envelope)
        Receipt.objects.create(handler="gone", source="/x", message_id="1", type="x.happened")
        lines = topology()

        start = lines.index("tests.counted  2 emitted here")
        assert lines[start + 1] == "├─ tests.invoice (g): 2 received"
        assert lines[start + 2] == "└─ causes tests.counted: 1"
        assert lines[-1] == "Seen and not declared: type x.happened, handler gone"
        assert topology("--mermaid")[0] == "flowchart LR"
        with pytest.raises(CommandError, match=r"type x\.happened, handler gone"):
            topology("--drift")

    def test_what_others_have_sent_causes_as_well(self, handle: Callable[..., None]) -> None:
        """Its type is known by its receipt."""
        handle(
            "tests.follow", lambda event, message: outbox.emit(Counted("k", 1)), pattern="x.done"
        )
        receive(happened(type="x.done", topic="x.done"))
        lines = topology()

        start = lines.index("x.done  not registered here")
        assert lines[start + 1 : start + 3] == [
            "├─ tests.follow (g): 1 received",
            "└─ causes tests.counted: 1",
        ]

    def test_its_statements(self) -> None:
        """As many whatever there is, and each is bounded by the newest position or id."""
        for number in range(50):
            emit(number=number)
        with CaptureQueriesContext(connection) as captured:
            load_topology("default", limit=10)

        assert len(captured.captured_queries) <= 5

    def test_only_the_newest(self) -> None:
        """As many as are asked for; and that is said."""
        for number in range(5):
            emit(number=number)
        lines = topology("--limit", "3")

        assert lines[0] == "Of the newest 3 events and receipts:"
        assert "tests.counted  3 emitted here" in lines


def topology(*arguments: str) -> list[str]:
    out = StringIO()
    call_command("flow", "topology", *arguments, stdout=out)
    return out.getvalue().splitlines()

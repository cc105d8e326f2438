"""What is sent, settled by groups, and acknowledged to the sender: from emit() to the rows."""

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connection, transaction
from django.test import modify_settings, override_settings
from django.test.utils import CaptureQueriesContext

import outbox
from inbox import Reject, operator
from inbox.acknowledgements import telling
from inbox.handlers.registry import handlers
from inbox.models import DeadLetter, Receipt
from inbox.replies import taking
from inbox.states import State
from inbox.verdicts import RetryPolicy
from outbox.checks import check_acknowledgements
from outbox.exceptions import ConfigurationError
from outbox.extensions.pruning import pruners
from outbox.message.acknowledgements import GROUPS, MAX_IDS, TO, TYPE
from outbox.message.envelope import Envelope
from outbox.message.event_types import registry
from outbox.message.requests import address_of
from outbox.models import Acknowledgement, Message
from outbox.testing import messages
from relay.checks import check_resending
from tests.inbox.support import Handling, make_due, receive, turn
from tests.kit.support import none_acknowledged
from tests.outbox.helpers import statements

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]

SENDER = "sender"
WITHIN = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Parcel:
    number: int


@dataclass(frozen=True, slots=True)
class Letter:
    number: int


@pytest.fixture(autouse=True)
def _service(handling: Handling) -> Iterator[None]:
    """A service whose parcels two groups are to acknowledge; nobody is asked about its letters."""
    added = [
        outbox.event(
            "post.parcel",
            acknowledge=outbox.Acknowledge(groups=["billing", "shipping"], within=WITHIN),
        )(Parcel),
        outbox.event("post.letter")(Letter),
    ]
    telling._proven.clear()
    with override_settings(OUTBOX={"LANES": 1, "SOURCE": "/post"}, INBOX={"GROUP": SENDER}):
        taking.install()
        yield
    handlers.remove(taking.NAME)
    for each in added:
        registry.remove(registry.of_class(each))


@pytest.fixture
def billing(handling: Handling) -> Handling:
    """A handler of billing that does nothing, for parcels and letters."""
    handling(_nothing, pattern="post.#", name="bill", declared_group="billing")
    return handling


def _nothing(event: Any, message: Envelope) -> None:
    pass


def send(count: int = 1) -> list[Envelope]:
    """Emit so many parcels."""
    with transaction.atomic():
        return outbox.emit_many([Parcel(number) for number in range(count)])


def told() -> list[tuple[str, dict[str, Any]]]:
    """Return what was told so far: the address, and what is said."""
    found = [each for each in messages() if each.type == TYPE]
    return [(each.topic, json.loads(each.data)) for each in found]


def state(message: Envelope, group: str = "billing") -> str:
    found = {each.group: each for each in outbox.acknowledgements(message.id)}
    return found[group].state


def pass_on() -> None:
    """Hand all that was told to the sender, over and over, as it may come."""
    for each in messages():
        if each.type == TYPE:
            receive(each, group=SENDER)


# --- Sending --------------------------------------------------------------------------------------


def test_a_row_for_each_group_is_written_with_the_message() -> None:
    """In the transaction of emit(), with a deadline by the clock of the database."""
    before = datetime.now(UTC)
    [message] = send()
    [billing, shipping] = outbox.acknowledgements(message.id)

    assert (billing.group, shipping.group) == ("billing", "shipping")
    assert (billing.state, billing.resends, billing.told_at, billing.hold) == (
        "awaited",
        0,
        None,
        "",
    )
    assert billing.due_at is not None
    assert abs(billing.due_at - billing.sent_at - WITHIN) < timedelta(milliseconds=2)
    assert abs(billing.sent_at - before) < timedelta(seconds=30)
    assert message.attributes[TO] == address_of(SENDER)
    assert message.attributes[GROUPS] == "billing shipping"
    assert async_to_sync(outbox.aacknowledgements)(message.id) == [billing, shipping]


def test_what_is_rolled_back_is_not_waited_for() -> None:
    with transaction.atomic():
        outbox.emit(Parcel(1))
        transaction.set_rollback(True)
    assert not Acknowledgement.objects.exists()


def test_it_takes_one_statement_more_however_many_messages() -> None:
    """And none for what does not ask."""
    with CaptureQueriesContext(connection) as captured, transaction.atomic():
        outbox.emit_many([Parcel(number) for number in range(20)])
    inserts = [each for each in statements(captured) if "acknowledgement" in each]
    assert (len(inserts), Acknowledgement.objects.count()) == (1, 40)
    with CaptureQueriesContext(connection) as captured, transaction.atomic():
        outbox.emit_many([Letter(number) for number in range(20)])
    assert not [each for each in statements(captured) if "acknowledgement" in each]
    assert Acknowledgement.objects.count() == 40


def test_the_time_of_what_is_scheduled_begins_when_it_is_due() -> None:
    with transaction.atomic():
        message = outbox.emit(Parcel(1), delay=timedelta(hours=1))
    assert message.time is not None
    [billing, _] = outbox.acknowledgements(message.id)
    assert abs(billing.sent_at - message.time) < timedelta(milliseconds=2)
    assert billing.due_at is not None
    assert abs(billing.due_at - message.time - WITHIN) < timedelta(milliseconds=2)


@pytest.mark.parametrize(
    "options",
    [
        {"groups": []},
        {"groups": "billing"},
        {"groups": ["billing", "billing"]},
        {"groups": ["no group"]},
        {"groups": ["amq.mine"]},
        {"groups": ["g" * 100, "h" * 100, "i" * 100]},
        {"within": 300},
        {"within": timedelta(0)},
        {"within": timedelta(days=1000)},
        {"resends": -1},
        {"resends": 1.5},
        {"resends": 1000},
        {"queues": {"nobody": "queue"}},
        {"queues": {"billing": ""}},
    ],
)
def test_what_cannot_be_asked_for(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="Acknowledge"):
        outbox.Acknowledge(**{"groups": ["billing"], "within": WITHIN} | options)


def test_an_event_type_takes_nothing_else_for_it() -> None:
    with pytest.raises(ConfigurationError, match="acknowledge is an outbox"):
        outbox.register("post.card", acknowledge=["billing"])  # type: ignore[arg-type]


def test_nobody_can_emit_the_attributes_by_himself() -> None:
    with transaction.atomic(), pytest.raises(outbox.InvalidEvent, match="set by the outbox"):
        outbox.emit(Letter(1), attributes={TO: "outbox.replies.sender"})


def test_no_message_id() -> None:
    with pytest.raises(outbox.InvalidMessageId):
        outbox.acknowledgements("no-id")
    assert outbox.acknowledgements(uuid.uuid4()) == []


# --- Telling --------------------------------------------------------------------------------------


def test_a_batch_tells_its_sender_with_one_message(billing: Handling) -> None:
    """And the sender notes it, with the time."""
    sent = send(3)
    receive(*sent, group="billing")
    [(address, said)] = told()
    assert address == address_of(SENDER)
    assert said == {"group": "billing", "source": "/post", "handled": [each.id for each in sent]}
    pass_on()
    found = outbox.acknowledgements(sent[0].id)
    assert [(each.group, each.state) for each in found] == [
        ("billing", "handled"),
        ("shipping", "awaited"),
    ]
    assert found[0].told_at is not None
    assert found[0].due_at is None


def test_what_a_consumer_pays(billing: Handling) -> None:
    """One statement for a batch, and not one for messages that do not ask."""
    with transaction.atomic():
        letters = outbox.emit_many([Letter(number) for number in range(50)])
    parcels = send(100)
    receive(*parcels[:50], group="billing")  # the first of a process has a savepoint besides
    with CaptureQueriesContext(connection) as plain:
        receive(*letters, group="billing")
    with CaptureQueriesContext(connection) as asking:
        receive(*parcels[50:], group="billing")
    more = [each for each in statements(asking) if "pg_notify" not in each]  # the relay's doorbell
    assert len(more) == len(statements(plain)) + 1
    assert len([each for each in more if TYPE in each]) == 1


def test_a_group_that_is_not_named_tells_nothing(handling: Handling) -> None:
    handling(_nothing, pattern="post.#", name="look", declared_group="watching")
    receive(*send(), group="watching")
    assert told() == []


def test_what_comes_again_is_acknowledged_again(handling: Handling) -> None:
    """What was told may have been lost; the handler runs once."""
    calls: list[int] = []
    handling(lambda event, _: calls.append(1), pattern="post.#", name="b", declared_group="billing")
    [message] = send()
    receive(message, group="billing")
    receive(message, group="billing")
    assert len(calls) == 1
    assert [said for _, said in told()] == [
        {"group": "billing", "source": "/post", "handled": [message.id]}
    ] * 2


def test_two_copies_in_one_batch_are_told_once(billing: Handling) -> None:
    [message] = send()
    receive(message, message, group="billing")
    assert [said["handled"] for _, said in told()] == [[message.id]]


def test_nothing_is_told_while_it_is_retried(handling: Handling) -> None:
    """Delivered again, it is told that the group has it; then, that it is handled."""
    fails = [True]

    def hesitate(event: Any, message: Envelope) -> None:
        if fails:
            raise ValueError

    handling(hesitate, pattern="post.#", name="b", declared_group="billing")
    [message] = send()
    receive(message, group="billing")
    assert told() == []
    receive(message, group="billing")
    assert [said for _, said in told()] == [
        {"group": "billing", "source": "/post", "kept": [message.id]}
    ]
    Acknowledgement.objects.update(resends=3)
    pass_on()
    found = outbox.acknowledgements(message.id)[0]
    assert (found.state, found.hold, found.resends) == ("awaited", "kept", 0)
    fails.clear()
    make_due()
    turn("billing")
    pass_on()
    assert state(message) == "handled"
    assert outbox.acknowledgements(message.id)[0].hold == ""


def test_a_group_has_settled_it_with_its_last_handler(handling: Handling) -> None:
    """While one of two handlers has yet to, nothing is told."""
    fails = [True]

    def hesitate(event: Any, message: Envelope) -> None:
        if fails:
            raise ValueError

    handling(hesitate, pattern="post.#", name="one", declared_group="billing")
    handling(_nothing, pattern="post.#", name="two", declared_group="billing")
    [message] = send()
    receive(message, group="billing")
    assert told() == []
    fails.clear()
    make_due()
    turn("billing")
    assert [said["handled"] for _, said in told()] == [[message.id]]


@pytest.mark.parametrize("later", [False, True])
def test_what_is_dead_is_told_as_dead(handling: Handling, later: bool) -> None:
    """Not as handled; also if it was tried several times. Retried by a person, it is handled."""
    refuses = [True]

    def refuse(event: Any, message: Envelope) -> None:
        if refuses:
            raise ValueError if later else Reject("no")

    options: dict[str, Any] = {"retry": RetryPolicy(attempts=2)} if later else {}
    handling(refuse, pattern="post.#", name="b", declared_group="billing", **options)
    [message] = send()
    receive(message, group="billing")
    if later:
        make_due()
        turn("billing")
    pass_on()
    assert state(message) == "dead"
    refuses.clear()
    operator.retry(
        list(Receipt.objects.filter(handler="b").values_list("pk", flat=True)), using="default"
    )
    turn("billing")
    pass_on()
    assert state(message) == "handled"


def test_what_is_given_up_is_told_as_skipped(handling: Handling) -> None:
    def refuse(event: Any, message: Envelope) -> None:
        raise Reject("no")

    handling(refuse, pattern="post.#", name="b", declared_group="billing")
    [message] = send()
    receive(message, group="billing")
    operator.discard(list(Receipt.objects.values_list("pk", flat=True)), using="default")
    assert [said.get("skipped") for _, said in told()] == [None, [message.id]]
    pass_on()
    assert state(message) == "skipped"


def test_what_its_key_has_gone_past_is_told_as_skipped(handling: Handling) -> None:
    handling(
        _nothing,
        pattern="post.#",
        name="b",
        declared_group="billing",
        ordered=True,
        sequence=lambda event: event.number if event.number else 1,
        sequence_start=None,
    )
    with transaction.atomic():
        second, first = outbox.emit_many(
            [outbox.Draft(event=Parcel(2), key="k"), outbox.Draft(event=Parcel(1), key="k")]
        )
    receive(second, group="billing")
    receive(first, group="billing")
    assert Receipt.objects.get(message_id=first.id).state == State.SKIPPED
    pass_on()
    assert (state(second), state(first)) == ("handled", "skipped")


def test_what_no_handler_can_use_is_told_as_dead(handling: Handling) -> None:
    """A dead letter of the group; received again by a person, it is handled."""
    handling(_nothing, pattern="post.parcel", name="b", declared_group="billing", version=7)
    [message] = send()
    receive(message, group="billing")
    pass_on()
    assert state(message) == "dead"
    handling.forget()
    handling(_nothing, pattern="post.parcel", name="b", declared_group="billing")
    operator.retry_letters([DeadLetter.objects.get().pk], using="default")
    pass_on()
    assert state(message) == "handled"


def test_several_groups_and_senders_of_one_batch(billing: Handling) -> None:
    """Each is told for itself: a relay in the same process hands over for all groups at once."""
    billing(_nothing, pattern="post.#", name="ship", declared_group="shipping")
    [mine] = send()
    other = Envelope(
        id="theirs 1",
        source="/other",
        type="post.parcel",
        data=b'{"number":1}',
        attributes={TO: "outbox.replies.other", GROUPS: "shipping"},
    )
    with CaptureQueriesContext(connection) as captured:
        receive(mine, other, group=None)
    assert len([each for each in statements(captured) if TYPE in each]) == 1
    found = sorted((to, said["group"], said["handled"]) for to, said in told())
    assert found == [
        ("outbox.replies.other", "shipping", ["theirs 1"]),
        ("outbox.replies.sender", "billing", [mine.id]),
        ("outbox.replies.sender", "shipping", [mine.id]),
    ]


@pytest.mark.parametrize(
    "attributes",
    [
        {TO: "shop.orders", GROUPS: "billing"},
        {TO: "outbox.replies.sender"},
        {TO: "outbox.replies.sender", GROUPS: "billing " * 100},
        {TO: "", GROUPS: "billing"},
        {GROUPS: "billing"},
        {TO: "outbox.replies." + "x" * 300, GROUPS: "billing"},
    ],
)
def test_who_asks_in_no_form_is_told_nothing(billing: Handling, attributes: dict[str, str]) -> None:
    message = Envelope(
        id="1", source="/x", type="post.parcel", data=b'{"number":1}', attributes=attributes
    )
    receive(message, group="billing")
    assert told() == []
    assert Receipt.objects.get().state == State.PROCESSED


def test_receipts_stand_where_nothing_can_be_told(
    billing: Handling, caplog: pytest.LogCaptureFixture
) -> None:
    """Also if it could be told before: a sender must not be able to stop a consumer by asking."""
    first, second = send(2)
    receive(first, group="billing")
    table = Message._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} RENAME TO moved_away")
    try:
        receive(second, group="billing")
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE moved_away RENAME TO {table}")
    assert Receipt.objects.filter(state=State.PROCESSED).count() == 2
    assert "Nothing is acknowledged" in caplog.text
    receive(second, group="billing")
    pass_on()
    assert state(second) == "handled"


# --- Taking ---------------------------------------------------------------------------------------


def say(**about: Any) -> None:
    """Let somebody tell something to the sender's address."""
    body = about.pop("body", None)
    message = Envelope(
        id=str(uuid.uuid4()),
        source="/stranger",
        type=TYPE,
        topic=address_of(SENDER),
        data=json.dumps(about).encode() if body is None else body,
    )
    receive(message, group=SENDER)


def test_what_is_told_only_gets_better() -> None:
    """In whatever order it comes, and however often."""
    [message] = send()
    for what, then in (
        ("kept", "awaited"),
        ("dead", "dead"),
        ("kept", "dead"),
        ("skipped", "skipped"),
        ("dead", "skipped"),
        ("handled", "handled"),
        ("skipped", "handled"),
        ("dead", "handled"),
        ("kept", "handled"),
    ):
        say(group="billing", **{what: [message.id]})
        assert state(message) == then, what
    assert state(message, "shipping") == "awaited"


def test_hostile_acknowledgements_change_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Ids that are not ours, groups that nobody asked, wrong forms, lists without an end."""
    [message] = send()
    say(group="watching", handled=[message.id])
    say(group="billing", handled=[str(uuid.uuid4())])
    say(group="billing", handled="all")
    say(group="billing", handled=[1, None, {}, [], "x", message.id[:-1], message.id + "'; --"])
    say(group="billing", awaited=[message.id], missing=[message.id])
    say(group=["billing"], handled=[message.id])
    say(group="no group", handled=[message.id])
    say(handled=[message.id])
    say(body=b'["billing"]')
    say(body=b"{")
    say(group="billing", handled=[str(uuid.UUID(int=n)) for n in range(MAX_IDS)] + [message.id])
    assert state(message) == state(message, "shipping") == "awaited"
    assert "/stranger" in caplog.text
    assert message.id not in caplog.text


def test_a_long_acknowledgement_is_taken_in_parts() -> None:
    sent = send(3)
    ids = [str(uuid.UUID(int=number)) for number in range(1200)]
    with CaptureQueriesContext(connection) as captured:
        say(group="billing", handled=ids[:600] + [each.id for each in sent] + ids[600:])
    assert [state(each) for each in sent] == ["handled"] * 3
    assert len([each for each in statements(captured) if 'FROM "django_outbox_ack' in each]) <= 4


def test_a_reader_of_a_usual_acknowledgement_takes_few_statements() -> None:
    """One to find the rows and lock them, one for the clock, and one to write."""
    sent = send(100)
    with CaptureQueriesContext(connection) as captured:
        say(group="billing", handled=[each.id for each in sent])
    assert len([each for each in statements(captured) if "django_outbox_ack" in each]) == 2


# --- Keeping --------------------------------------------------------------------------------------


def test_rows_are_kept_as_long_as_messages(caplog: pytest.LogCaptureFixture) -> None:
    """Also what was never told, which is said then."""
    old, new = send(2)
    say(group="billing", handled=[old.id])
    before = Acknowledgement.objects.get(message_id=new.id, group="billing").sent_at
    Acknowledgement.objects.filter(message_id=old.id).update(sent_at=before - timedelta(days=8))
    [pruner] = [each for each in pruners() if each.name == "acknowledgements"]
    assert pruner.count is not None
    assert pruner.oldest is not None
    assert pruner.oldest("default") == before - timedelta(days=8)
    limit = before - timedelta(days=7)
    assert pruner.count("default", before=limit, limit=10) == 2
    assert pruner.prune("default", before=limit, limit=10) == 2
    assert [each.message_id for each in Acknowledgement.objects.all()] == [uuid.UUID(new.id)] * 2
    assert "1 acknowledgement never told" in caplog.text


def test_what_is_scheduled_for_long_keeps_nothing_else() -> None:
    """Its rows are older than those of messages that were sent since, and stay."""
    for number in range(3):
        with transaction.atomic():
            later = outbox.emit(Parcel(1), delay=timedelta(days=300))
        Acknowledgement.objects.filter(message_id=later.id).update(
            message_id=made(datetime.now(UTC) - timedelta(days=20), number)
        )
    sent = send(4)
    before = Acknowledgement.objects.get(message_id=sent[0].id, group="billing").sent_at
    Acknowledgement.objects.filter(message_id__in=[each.id for each in sent[:3]]).update(
        sent_at=before - timedelta(days=8)
    )
    [pruner] = [each for each in pruners() if each.name == "acknowledgements"]
    assert pruner.count is not None
    limit = before - timedelta(days=7)
    assert pruner.count("default", before=limit, limit=100) == 6
    assert [pruner.prune("default", before=limit, limit=5) for _ in range(2)] == [5, 1]
    assert Acknowledgement.objects.count() == 6 + 2


def test_what_is_scheduled_is_passed_by_in_pages() -> None:
    """However few are left to be deleted at once."""
    first = send(2)
    send(5)
    last = send(1)
    before = Acknowledgement.objects.get(message_id=first[0].id, group="billing").sent_at
    old = Acknowledgement.objects.filter(message_id__in=[each.id for each in first + last])
    old.update(sent_at=before - timedelta(days=8))
    for row in Acknowledgement.objects.exclude(pk__in=old.values("pk")):
        row.message_id = made(before - timedelta(days=20), row.pk)
        row.save()
    [pruner] = [each for each in pruners() if each.name == "acknowledgements"]
    with CaptureQueriesContext(connection) as captured:
        assert pruner.prune("default", before=before - timedelta(days=7), limit=5) == 5
    assert len(statements(captured)) == 5


def made(at: datetime, number: int) -> uuid.UUID:
    """Return a UUIDv7 that was made at a time."""
    return uuid.UUID(int=(int(at.timestamp() * 1000) << 80) | (7 << 76) | (2 << 62) | number)


def test_a_run_of_retention_ends_where_all_is_young() -> None:
    """One statement, however many rows there are."""
    send(10)
    before = Acknowledgement.objects.first().sent_at - timedelta(days=7)  # type: ignore[union-attr]
    [pruner] = [each for each in pruners() if each.name == "acknowledgements"]
    with CaptureQueriesContext(connection) as captured:
        assert pruner.prune("default", before=before, limit=2) == 0
    assert len(statements(captured)) == 1


# --- Checks ---------------------------------------------------------------------------------------


def test_a_service_that_nobody_can_tell_anything() -> None:
    """outbox.E010 without the inbox, relay.W004 without a relay that can send again."""
    kombu = {"BACKEND": "relay.brokers.kombu.KombuBroker", "URL": "memory://"}
    local = {"BACKEND": "relay.brokers.local.LocalBroker"}
    assert check_acknowledgements() == []
    with modify_settings(INSTALLED_APPS={"remove": ["inbox"]}):
        [error] = [each for each in check_acknowledgements() if "post.parcel" in each.msg]
    assert error.id == "outbox.E010"
    with override_settings(RELAYS={"default": local}):
        assert check_resending() == []
    with override_settings(RELAYS={"default": kombu}):
        assert [each.id for each in check_resending()] == ["relay.W004"]
    with none_acknowledged(), override_settings(RELAYS={"default": kombu}):
        assert check_resending() == []

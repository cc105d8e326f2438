"""Fixtures: what is loaded into the log is published, and no cursor of elsewhere is believed."""

import json
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import IntegrityError, connection, transaction
from django.db.models import Max

import outbox
from outbox.exceptions import ImmutableRow
from outbox.models import Message, Scheduled
from relay.brokers.base import Status
from relay.log import open_log
from relay.models import Checkpoint, Parked
from relay.states import ParkedState
from relay.transfer import transfer
from tests.kit.support import Counted, RecordingBroker

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.sqlite]

APPS = ("django_outbox", "django_relay")


class Reading:
    """A relay that publishes into memory."""

    def __init__(self) -> None:
        self.log = open_log("test", using="default")
        self.broker = RecordingBroker()

    def all(self) -> list[int]:
        """Publish all there is; return the numbers of what was published by this call."""
        known = len(self.broker.published)
        while lanes := self.log.lanes_with_work(8):
            for lane in lanes:
                transfer(self.log, self.broker, lane, 3)
        return self.broker.numbers()[known:]


def commit(*numbers: int, key: str = "a") -> None:
    with transaction.atomic():
        outbox.emit_many([Counted(key, number) for number in numbers])


def clear() -> None:
    for model in (Message, Scheduled, Checkpoint, Parked):
        model.objects.all().delete()


def by_loaddata(path: Path, empty: bool = True) -> None:
    file = path / "dump.json"
    call_command("dumpdata", *APPS, output=str(file))
    if empty:
        clear()
    call_command("loaddata", str(file), verbosity=0)


def by_serialized_rollback(path: Path, empty: bool = True) -> None:
    dump = connection.creation.serialize_db_to_string()
    if empty:
        clear()
    connection.creation.deserialize_db_from_string(dump)


WAYS = pytest.mark.parametrize("load", [by_loaddata, by_serialized_rollback])
Load = Callable[..., None]


def facts(model: type[Message | Scheduled]) -> list[dict[str, object]]:
    """Return what messages say, but where they are; times as precise as Django's JSON."""
    rows = list(model.objects.order_by("pk").values())
    for row in rows:
        for name in ("id", "position", "transaction_id"):
            row.pop(name, None)
        row["data"] = bytes(row["data"])
        for name in {"time", "due_at"} & set(row):
            row[name] = row[name].replace(microsecond=row[name].microsecond // 1000 * 1000)
    return rows


@WAYS
def test_messages_are_loaded_as_they_were(load: Load, tmp_path: Path) -> None:
    """Every attribute comes back, byte for byte, and the order."""
    commit(1, 2, 3)
    with transaction.atomic():
        outbox.emit(Counted("a", 4), attributes={"tenant": "x"}, correlation_id="flow")
        outbox.emit(Counted("a", 5), delay=3600)
    before = facts(Message), facts(Scheduled)
    load(tmp_path)

    assert (facts(Message), facts(Scheduled)) == before


@WAYS
def test_what_is_loaded_is_published(load: Load, tmp_path: Path) -> None:
    """Published before or pending: it is new in the log, comes in order, and once."""
    reading = Reading()
    commit(1, 2, 3)
    assert reading.all() == [1, 2, 3]
    commit(4)
    load(tmp_path)

    assert reading.all() == [1, 2, 3, 4]
    commit(5)
    assert reading.all() == [5]
    assert reading.all() == []


def test_messages_loaded_below_the_cursor_are_published(tmp_path: Path) -> None:
    """Beside a cursor of this database, which has gone past the positions they once had."""
    reading = Reading()
    commit(1, 2, 3)
    call_command("dumpdata", "django_outbox", output=str(tmp_path / "dump.json"))
    assert reading.all() == [1, 2, 3]
    Message.objects.all().delete()
    commit(4)
    assert reading.all() == [4]
    call_command("loaddata", str(tmp_path / "dump.json"), verbosity=0)

    assert reading.all() == [1, 2, 3]


@WAYS
def test_loading_changes_no_message(load: Load, tmp_path: Path) -> None:
    """One that is in the log stays where and as it is: nothing is published again."""
    reading = Reading()
    commit(1, 2)
    reading.all()
    before = list(Message.objects.order_by("pk").values_list("pk", "transaction_id"))
    cursors = list(Checkpoint.objects.order_by("pk").values())
    load(tmp_path, empty=False)

    assert list(Message.objects.order_by("pk").values_list("pk", "transaction_id")) == before
    assert list(Checkpoint.objects.order_by("pk").values()) == cursors
    assert reading.all() == []


def test_another_message_of_the_same_position_stays(tmp_path: Path) -> None:
    """A fixture of another database overwrites nothing that has its positions here."""
    commit(1)
    call_command("dumpdata", "django_outbox", output=str(tmp_path / "dump.json"))
    [row] = json.loads((tmp_path / "dump.json").read_text())
    row["fields"]["message_id"] = str(uuid.uuid4())
    (tmp_path / "dump.json").write_text(json.dumps([row]))
    call_command("loaddata", str(tmp_path / "dump.json"), verbosity=0)

    assert Message.objects.count() == 2
    assert len(Reading().all()) == 2


def test_ids_in_older_fixtures_mean_nothing(tmp_path: Path) -> None:
    """A transaction id of another time is not taken for one of this: the message is published."""
    reading = Reading()
    commit(1)
    reading.all()
    commit(2)
    call_command("dumpdata", "django_outbox", output=str(tmp_path / "dump.json"))
    rows = json.loads((tmp_path / "dump.json").read_text())
    assert not any("transaction_id" in row["fields"] for row in rows)
    for row in rows:
        row["fields"]["transaction_id"] = 3  # long ago
    (tmp_path / "dump.json").write_text(json.dumps(rows))
    Message.objects.all().delete()
    call_command("loaddata", str(tmp_path / "dump.json"), verbosity=0)

    assert reading.all() == [1, 2]


def test_a_checkpoint_overwrites_none_of_another_chain(tmp_path: Path) -> None:
    """It would be somebody's cursor: loading it is refused."""
    commit(1)
    Reading().all()
    call_command("dumpdata", "django_relay", output=str(tmp_path / "dump.json"))
    Checkpoint.objects.update(relay="other")

    with pytest.raises(IntegrityError, match=r"leave django_relay\.Checkpoint out"):
        call_command("loaddata", str(tmp_path / "dump.json"), verbosity=0)
    assert set(Checkpoint.objects.values_list("relay", flat=True)) == {"other"}


@WAYS
def test_parked_messages_are_loaded_and_in_the_flow_again(load: Load, tmp_path: Path) -> None:
    """What was parked is published with the rest, and no other is taken for it."""
    reading = Reading()
    commit(1, 2, key="a")
    first = Message.objects.earliest("pk")
    reading.broker.refuse[str(first.message_id)] = Status.UNROUTABLE
    reading.all()
    assert Parked.objects.count() == 2
    reading.broker.refuse.clear()
    load(tmp_path)
    Parked.objects.filter(state=ParkedState.PARKED).update(next_attempt_at="2000-01-01T00:00Z")
    commit(3, key="a")
    commit(4, key="b")

    numbers = reading.all()
    assert sorted(numbers) == [1, 2, 3, 4]
    assert [number for number in numbers if number < 4] == [1, 2, 3]


def test_a_message_cannot_be_saved_again() -> None:
    """It is a fact: a change after it was published would be known to nobody."""
    commit(1)
    message = Message.objects.get()
    message.topic = "elsewhere"
    with pytest.raises(ImmutableRow, match=rf"django_outbox.Message {message.pk} cannot be chan"):
        message.save()
    Reading().all()
    with pytest.raises(ImmutableRow, match=r"django_relay\.Checkpoint"):
        Checkpoint.objects.get().save()
    assert Message.objects.get().topic != "elsewhere"


def test_a_copy_of_a_message_is_published() -> None:
    """Saved, created in bulk or created as such: each with the id of its own transaction."""
    reading = Reading()
    commit(1)
    reading.all()
    message = Message.objects.get()
    message.pk, message.message_id = None, uuid.uuid4()
    message.save()
    assert reading.all() == [1]
    copies = [Message.objects.get(pk=message.pk) for _ in range(3)]
    for copy in copies:
        copy.pk, copy.message_id = None, uuid.uuid4()
    Message.objects.bulk_create(copies)
    assert reading.all() == [1, 1, 1]
    values = Message.objects.values().get(pk=message.pk)
    Message.objects.create(**values | {"position": None, "message_id": uuid.uuid4()})

    assert reading.all() == [1]


@pytest.mark.parametrize("how", ["save", "create", "bulk_create"])
def test_a_copy_with_a_position_gets_another(how: str) -> None:
    """Relays have gone past the old one, and it may be another message's: it is drawn anew."""
    reading = Reading()
    commit(1, 2)
    reading.all()
    values = Message.objects.values().earliest("pk")
    values["message_id"] = uuid.uuid4()
    if how == "save":
        Message(**values).save()
    elif how == "create":
        Message.objects.create(**values)
    else:
        Message.objects.bulk_create([Message(**values)])

    assert Message.objects.count() == 3
    assert Message.objects.latest("pk").message_id == values["message_id"]
    assert reading.all() == [1]


def test_a_copy_of_a_checkpoint_can_be_saved() -> None:
    """Its transaction is the one that saves it."""
    commit(1)
    Reading().all()
    checkpoint = Checkpoint.objects.get()
    checkpoint.pk, checkpoint.relay = None, "other"
    checkpoint.save()

    assert Checkpoint.objects.count() == 2
    if connection.vendor == "postgresql":
        ids = Checkpoint.objects.aggregate(Max("transaction_id"))
        assert Checkpoint.objects.get(relay="other").transaction_id == ids["transaction_id__max"]

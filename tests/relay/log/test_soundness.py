"""A log that cannot be read as it stands is not read; what to do is told, and helps."""

import io
import json
import re
from collections.abc import Callable, Iterator

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction

import outbox
from outbox.extensions.diagnosis import Level
from outbox.models import Message
from relay import doctor
from relay.exceptions import UnsoundLog
from relay.log import PostgreSQLLog
from relay.log.rebase import rebase
from relay.log.soundness import flaws, is_loading
from relay.models import Checkpoint, Parked
from relay.transfer import transfer
from tests.kit.database import execute
from tests.kit.sessions import Session, sessions
from tests.kit.support import Counted, RecordingBroker
from tests.relay.log.moving import move_from_lower

pytestmark = [pytest.mark.usefixtures("one_lane"), pytest.mark.django_db(transaction=True)]


@pytest.fixture
def other() -> Iterator[Session]:
    with sessions(1) as [session]:
        yield session


class Reading:
    """A relay that publishes into memory."""

    def __init__(self, name: str = "test") -> None:
        self.log = PostgreSQLLog(name, using="default")
        self.broker = RecordingBroker()

    def all(self) -> list[int]:
        """Publish all there is; return the numbers of what was published by this call."""
        known = len(self.broker.published)
        while self.log.lanes_with_work(1):
            transfer(self.log, self.broker, 0, 100)
        return self.broker.numbers()[known:]


def commit(*numbers: int) -> None:
    with transaction.atomic():
        outbox.emit_many([Counted("a", number) for number in numbers])


def set_sequence(table: str, column: str, value: int) -> None:
    execute(f"SELECT setval(pg_get_serial_sequence('{table}', '{column}'), {value})")


def remedy(text: str) -> str:
    """Return the statement that a hint tells."""
    [statement] = re.findall(r"SELECT setval\(.*?\), \d+\);|ALTER TABLE [^.]*(?= *\.)", text)
    return str(statement)


def behind() -> None:
    set_sequence("django_outbox_message", "position", 1)


def checkpoints_behind() -> None:
    set_sequence("django_relay_checkpoint", "id", 1)


def parked_behind() -> None:
    execute("""
        INSERT INTO django_relay_parked (id, relay, lane, position, message_id, type, topic, state,
                                         reason, error, attempts, parked_at, settled_by)
        VALUES ((SELECT last_value + 1000 FROM django_relay_parked_id_seq), 'test', 0, 1,
                gen_random_uuid(), 't', 't', 'published', '', '', 1, now(), '')""")


def in_blocks() -> None:
    execute("ALTER TABLE django_outbox_message ALTER COLUMN position SET CACHE 20")


FLAWS = pytest.mark.parametrize("spoil", [behind, checkpoints_behind, parked_behind, in_blocks])


@FLAWS
def test_nothing_is_published_until_the_remedy_that_is_told(spoil: Callable[[], None]) -> None:
    """Values of sequences that a restore left behind, and what the statement in the hint does."""
    reading = Reading()
    commit(1, 2)
    assert reading.all() == [1, 2]
    commit(3)
    spoil()
    try:
        with pytest.raises(UnsoundLog, match="cannot be read as it stands") as caught:
            Reading().all()
        told = remedy(str(caught.value))
    finally:
        [flaw] = flaws("default")
        execute(remedy(flaw.hint))
    assert remedy(flaw.hint) == told
    assert flaws("default") == []

    assert Reading().all() == [3]
    commit(4)
    assert Reading().all() == [4]


def test_a_sequence_that_falls_behind_the_log_is_noticed_with_the_next_page() -> None:
    """The relay that is up does not wait for its next look; nothing is skipped either way."""
    reading = Reading()
    commit(*range(10))
    assert len(reading.all()) == 10
    Message.objects.filter(pk=Message.objects.earliest("pk").pk).delete()
    low = Message.objects.earliest("pk").pk - 1
    execute(f"ALTER TABLE django_outbox_message ALTER COLUMN position RESTART {low}")
    commit(10)
    with pytest.raises(UnsoundLog, match="New messages would overtake older ones"):
        reading.all()
    [flaw] = flaws("default")
    execute(remedy(flaw.hint))

    assert reading.all() == [10]
    commit(11)
    assert reading.all() == [11]


@pytest.mark.parametrize(
    ("table", "constraint", "columns"),
    [
        ("django_outbox_message", "django_outbox_message_pkey", "PRIMARY KEY (position)"),
        ("django_relay_checkpoint", "django_relay_checkpoint_pkey", "PRIMARY KEY (id)"),
        ("django_relay_checkpoint", "relay_chain", "UNIQUE (relay, lane, previous)"),
    ],
)
@pytest.mark.parametrize("known", [True, False])
def test_a_restore_at_work(table: str, constraint: str, columns: str, known: bool) -> None:
    """Keys are added when the rows are there; before, no relay begins, be it a new one or not."""
    commit(1)
    if known:
        Reading().all()
        commit(2)
    reading = Reading()
    execute(f"ALTER TABLE {table} DROP CONSTRAINT {constraint}")
    try:
        with pytest.raises(UnsoundLog, match=f"not whole: {table}"):
            reading.all()
    finally:
        execute(f"ALTER TABLE {table} ADD CONSTRAINT {constraint} {columns}")

    assert reading.all() == [2 if known else 1]


def test_a_new_relay_waits_for_the_sequence() -> None:
    """Rows and no checkpoints: a restore that has not ended, for all a relay can know."""
    reading = Reading()
    assert reading.all() == []
    commit(1)
    behind()
    commit_position = Message.objects.earliest("pk").pk
    with pytest.raises(UnsoundLog, match=f"up to {commit_position}"):
        reading.all()
    set_sequence("django_outbox_message", "position", commit_position)

    assert reading.all() == [1]


def test_cursors_that_came_without_messages() -> None:
    """A moved log is not rebased before its sequence has come as far as its cursors had."""
    reading = Reading()
    commit(1)
    reading.all()
    commit(2)
    move_from_lower()
    execute("CREATE TEMPORARY TABLE kept AS SELECT * FROM django_outbox_message")
    execute("TRUNCATE django_outbox_message RESTART IDENTITY")
    try:
        with pytest.raises(UnsoundLog, match="relays had read up to"):
            Reading().all()
        assert Checkpoint.objects.count() == 1
        execute("INSERT INTO django_outbox_message SELECT * FROM kept")
        [flaw] = flaws("default")
        execute(remedy(flaw.hint))
    finally:
        execute("DROP TABLE kept")

    assert Reading().all() == [2]


def test_a_chain_that_was_given_an_id_twice() -> None:
    """It would never move on: the checkpoint in the way is named."""
    commit(1)
    Reading().all()
    commit(2)
    Reading().all()
    [first, second] = Checkpoint.objects.order_by("pk")
    Checkpoint.objects.filter(pk=second.pk).update(id=first.pk - 1000)
    commit(3)
    with pytest.raises(UnsoundLog, match=f"Checkpoint {first.pk - 1000} is not above"):
        Reading().all()
    Checkpoint.objects.filter(pk=first.pk - 1000).delete()

    assert Reading().all() == [2, 3]


def test_the_doctor_and_the_status_say_so() -> None:
    """In the words of the relay, as an error, with the statement."""
    commit(1)
    Reading("default").all()
    behind()
    try:
        commit_flaws = flaws("default")
        [finding] = [each for each in doctor.examine("default") if each.id == "relay.log"]
        with pytest.raises(CommandError, match="cannot be read as it stands"):
            call_command("relay_status", stdout=io.StringIO())
        with pytest.raises(CommandError, match="Not everything could be published"):
            call_command("relay", "--until-empty", stdout=io.StringIO())
    finally:
        execute(remedy(flaws("default")[0].hint))

    assert finding.level is Level.ERROR
    assert [(finding.text.split(" No relay")[0], finding.hint)] == commit_flaws
    assert not [each for each in doctor.examine("default") if each.id == "relay.log"]


def test_rows_that_are_being_loaded_are_waited_for(other: Session) -> None:
    """A COPY into the log, in a transaction of its own, may be the rest of a restore."""
    reading = Reading()
    commit(1)
    reading.all()
    commit(2)
    move_from_lower()
    assert not is_loading("default")

    def rest() -> None:
        with connection.cursor() as cursor, cursor.copy("COPY django_relay_parked FROM STDIN"):
            assert is_loading_elsewhere(other) is True
            assert other.run(rebase, "default") is False

    rest()
    assert not is_loading("default")
    assert reading.all() == [2]


def is_loading_elsewhere(session: Session) -> bool:
    return bool(session.run(is_loading, "default"))


def test_the_look_reads_a_few_rows_of_indexes() -> None:
    """It costs the same with a long log and a long history of checkpoints."""
    commit(*range(3000))
    reading = Reading()
    while reading.log.lanes_with_work(1):
        transfer(reading.log, reading.broker, 0, 10)
    assert Parked.objects.count() == 0
    execute("SELECT pg_stat_force_next_flush()")
    before = _scanned()
    flaws("default")
    execute("SELECT pg_stat_force_next_flush()")

    assert json.dumps(_scanned()) == json.dumps(before)


def _scanned() -> list[tuple[str, int]]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname, seq_scan FROM pg_stat_user_tables "
            "WHERE relname IN ('django_outbox_message', 'django_relay_checkpoint') ORDER BY 1"
        )
        return list(cursor.fetchall())

"""What the doctor finds about relays, from real sessions on a real server."""

import socket
import uuid
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.test import override_settings
from kombu import Connection

from outbox.extensions import diagnosis
from outbox.extensions.diagnosis import Finding, Level
from relay import doctor
from relay.models import Checkpoint, Parked
from relay.reports import sessions as relay_sessions
from relay.reports.sessions import without_literals
from tests.kit.processes import running
from tests.kit.sessions import sessions
from tests.kit.waiting import until
from tests.relay.reports.test_status import make_older
from tests.relay.test_retention import commit, emit, park, publish, relays

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def one_relay() -> Iterator[None]:
    with override_settings(OUTBOX={"LANES": 2}, RELAYS=relays("mine")):
        yield


def found(id: str) -> list[Finding]:
    return [each for each in doctor.examine("default") if each.id == id]


def amqp(url: str, **options: object) -> dict[str, object]:
    return {"mine": {"BACKEND": "relay.brokers.amqp.AMQPBroker", "URL": url, "OPTIONS": options}}


@pytest.mark.sqlite
def test_all_is_well() -> None:
    """Everything published and nothing old: only good news."""
    commit(3)
    publish()

    assert {each.level for each in doctor.examine("default")} == {Level.OK}
    assert [each.text for each in found("relay.progress")] == ["0 pending."]


@pytest.mark.sqlite
def test_nobody_publishes() -> None:
    """Old messages, nothing moves, no trace of a process."""
    commit(3)
    make_older(minutes=5)
    [one] = found("relay.not_running")

    assert one.level == Level.ERROR
    assert "3 pending, the oldest for 5 min" in one.text
    assert "--relay mine" in one.hint


@pytest.mark.slow
def test_somebody_is_there_and_nothing_moves(database_url: str) -> None:
    """A process that listens: then its log says why."""
    commit(3)
    make_older(minutes=5)
    with running(
        "relay",
        DATABASE_URL=database_url,
        BROKER_URL="amqp://guest:guest@127.0.0.1:1//",
    ) as process:
        process.wait_for(lambda: relay_sessions.seems_to_run("default", "mine"))
        [one] = found("relay.stalled")

    assert one.level == Level.ERROR


@pytest.mark.sqlite
def test_a_relay_that_is_behind() -> None:
    """It moves, and what is pending is old."""
    commit(5)
    make_older(minutes=5)
    publish(pages=1, size=2)
    [one] = found("relay.behind")

    assert one.level == Level.WARNING


@pytest.mark.sqlite
def test_a_retired_relay() -> None:
    """Only in checkpoints: worth knowing."""
    commit(1)
    publish("retired")
    publish("mine")

    assert [each.level for each in found("relay.retired")] == [Level.INFO]


def test_another_cluster() -> None:
    """The cursors of a database that was moved."""
    commit(1)
    publish()
    Checkpoint.objects.update(system_identifier=1)

    assert [each.level for each in found("relay.moved")] == [Level.ERROR]


def test_who_has_emitted_and_does_not_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its pid and its query, without the values in it."""
    monkeypatch.setattr(doctor, "EMITTER_AGE", timedelta(0))
    with sessions(2) as [emitting, other]:
        emitting.begin()
        emitting.run(emit, 1, "secret-key")
        other.begin()
        [one] = found("relay.emitter")
        pid = emitting.run(backend_pid)

    assert f"pid {pid}," in one.text
    assert "INSERT INTO" in one.text
    assert "secret-key" not in one.text
    assert one.figures["pid"] == pid
    assert not found("relay.emitter")


def test_who_holds_vacuum_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """An idle transaction with an id, which has not even emitted."""
    monkeypatch.setattr(doctor, "PIN_AGE", timedelta(0))
    with sessions(1) as [idle]:
        idle.begin()
        pid = idle.run(backend_pid)
        # The oldest are told, of any database of the server: other tests' transactions end.
        until(lambda: pid in (each.figures["pid"] for each in found("relay.pin")))
        [pin] = (each for each in found("relay.pin") if each.figures["pid"] == pid)

        assert "idle in transaction" in pin.text
        assert f"pg_terminate_backend({pid})" in pin.hint


def test_a_slot_that_nobody_reads() -> None:
    """It keeps WAL for ever."""
    name = f"doctor_{uuid.uuid4().hex[:12]}"
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_create_physical_replication_slot(%s, true)", [name])
        try:
            assert any(name in each.text for each in found("relay.slot"))
        finally:
            cursor.execute("SELECT pg_drop_replication_slot(%s)", [name])


def test_a_prepared_transaction(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forgotten by whoever prepared it; where the server has them at all."""
    with connection.cursor() as cursor:
        cursor.execute("SHOW max_prepared_transactions")
        if cursor.fetchone()[0] == "0":
            assert relay_sessions.prepared("default", timedelta(0)) == []
            return
        name = uuid.uuid4().hex
        monkeypatch.setattr(doctor, "PIN_AGE", timedelta(0))
        with transaction.atomic():
            cursor.execute("SELECT pg_current_xact_id()")
            cursor.execute(f"PREPARE TRANSACTION '{name}'")
        try:
            assert any(name in each.text for each in found("relay.prepared"))
        finally:
            cursor.execute(f"ROLLBACK PREPARED '{name}'")


@pytest.mark.sqlite
def test_nobody_prunes() -> None:
    """What should be gone is still there; what is kept for ever is worth a word."""
    commit(3)
    publish()
    make_older(days=9)
    assert [each.level for each in found("relay.retention")] == [Level.WARNING]
    with override_settings(OUTBOX={"LANES": 2, "RETENTION": None}):
        assert [each.level for each in found("relay.retention")] == [Level.INFO]
    with override_settings(OUTBOX={"LANES": 2, "RETENTION": 30}):
        assert [each.level for each in found("relay.retention")] == [Level.OK]


class TestBroker:
    """What AMQP tells without side effects."""

    def test_it_is_away(self) -> None:
        """Where it was looked for, without the password."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        with override_settings(RELAYS=amqp(f"amqp://guest:s3cret@127.0.0.1:{port}//")):
            [one] = found("relay.broker")

        assert one.level == Level.ERROR
        assert f"127.0.0.1:{port}" in one.text
        assert "s3cret" not in one.text

    def test_a_url_that_cannot_be_read_hides_no_other_relay(self, broker_url: str) -> None:
        """The check tells of it; the database is not to blame."""
        wrong = amqp(" amqp://guest:s3cret@127.0.0.1//")["mine"]
        relays = {"wrong": wrong, **amqp(broker_url, EXCHANGE="amq.topic")}
        with override_settings(RELAYS=relays, INBOX={"URL": broker_url}):
            findings = diagnosis.examine("default")

        assert [each.level for each in findings if each.id == "relay.broker"] == [Level.OK]
        assert [each.id for each in findings if "white space" in each.text] == ["relay.E002"]
        assert "relay.unexamined" not in {each.id for each in findings}
        assert "s3cret" not in str(findings)

    def test_the_exchange_is_missing_and_stays_so(self, broker_url: str) -> None:
        """The doctor declares nothing: the second look finds the same."""
        name = f"doctor-{uuid.uuid4()}"
        with override_settings(RELAYS=amqp(broker_url, EXCHANGE=name)):
            for _ in range(2):
                [one] = found("relay.exchange")
                assert one.level == Level.WARNING
                assert name in one.text

    def test_the_exchange_is_there(self, broker_url: str) -> None:
        """Nothing is published; what cannot be told is said."""
        name = f"doctor-{uuid.uuid4()}"
        with Connection(broker_url) as link:
            channel = link.channel()
            channel.exchange_declare(name, "topic", durable=True, auto_delete=False)
            queue = channel.queue_declare("", exclusive=True).queue
            channel.queue_bind(queue, name, routing_key="#")
            with override_settings(RELAYS=amqp(broker_url, EXCHANGE=name)):
                [one] = found("relay.broker")
            assert channel.basic_get(queue, no_ack=True) is None
            channel.exchange_delete(name)

        assert one.level == Level.OK
        assert "cannot be told" in one.text


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("SELECT 1", "SELECT ?"),
        ("INSERT INTO t VALUES ('it''s', 4111111111111111)", "INSERT INTO t VALUES (?, ?)"),
        ("SELECT 'cut off by the ser", "SELECT ?"),
        ("SELECT $$a 'b$$, $x$c$x$\n  FROM t1", "SELECT ?, ? FROM t1"),
        ("x" * 300, f"{'x' * 200}…"),
    ],
)
def test_queries_are_shown_without_values(query: str, shown: str) -> None:
    """Payloads and keys are nobody's business."""
    assert without_literals(query) == shown


def backend_pid() -> int:
    """Return the session's pid without a query, which would hide the one before."""
    pid: int = connection.connection.info.backend_pid
    return pid


def test_what_is_parked_and_what_is_dead() -> None:
    """By topic and reason, with how many keys wait and what to do."""
    park()
    [finding] = doctor.parked("default")
    assert (finding.id, finding.level) == ("relay.parked", Level.WARNING)
    assert "unroutable: refused by the test. 1 key waits" in finding.text
    Parked.objects.filter(state="parked").update(state="dead")

    [dead] = doctor.parked("default")
    assert (dead.id, dead.level) == ("relay.dead", Level.ERROR)
    assert "relay_requeue" in dead.hint
    assert (dead.hides, dead.about) == (("relay.parked",), finding.about)


def test_the_kinds_of_parked_messages_beyond_those_that_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Are told of as well; and secrets are in no text."""
    monkeypatch.setattr(doctor, "REASONS", 1)
    park()
    Parked.objects.update(error="Denied: password=hunter2")
    [row] = Parked.objects.filter(state="parked")
    Parked.objects.filter(pk=row.pk).update(state="dead")
    [one] = doctor.parked("default")
    assert "hunter2" not in one.text
    row.pk, row.topic, row.position, row.state = None, "elsewhere", row.position + 100, "parked"
    row.save()
    _, others = doctor.parked("default")

    assert (others.about, others.page) == ("others", "failures/")

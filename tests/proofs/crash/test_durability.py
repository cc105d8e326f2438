"""A database whose commits are not on disk yet crashes: nothing was told that is undone then."""

import contextlib
import dataclasses
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connections, transaction
from django.test import override_settings

import outbox
from inbox.models import Receipt
from outbox import checks
from outbox.database import transactions
from outbox.models import Message
from outbox.runtime.shutdown import Shutdown
from relay.conf import RelaySettings
from relay.log import Page, PostgreSQLLog
from relay.loop import Relay
from tests.inbox.support import Handling, happened, receive
from tests.kit.support import Counted, RecordingBroker
from tests.proofs.moves.clusters import Cluster, alias

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster that leaves what is committed asynchronously in memory for long."""
    found = Cluster.with_database(tmp_path_factory.mktemp("crash") / "data")
    found.execute("ALTER SYSTEM SET wal_writer_delay = '10s'")
    found.execute("ALTER SYSTEM SET wal_writer_flush_after = '1GB'")
    found.execute("SELECT pg_reload_conf()")
    yield found
    found.server.stop()


@pytest.fixture
def using(cluster: Cluster, django_db_blocker: Any) -> Iterator[str]:
    url = cluster.create("events")
    with (
        django_db_blocker.unblock(),
        override_settings(OUTBOX={"LANES": 1}),
        alias("crashing", url) as name,
    ):
        cluster.execute("CHECKPOINT")  # what was made until now is not to be lost
        yield name


def crash(cluster: Cluster) -> None:
    """End every process of the server at once, and start it again: it recovers what is on disk."""
    postmaster = int((cluster.server.data / "postmaster.pid").read_text().split()[0])
    os.kill(postmaster, signal.SIGSTOP)  # it would clean up after its children
    for pid in (*children(postmaster), postmaster):
        os.kill(pid, signal.SIGKILL)
    cluster.server.start()


def children(parent: int) -> list[int]:
    stats = {path.parent.name: path.read_text() for path in Path("/proc").glob("[0-9]*/stat")}
    return [
        int(pid) for pid, stat in stats.items() if int(stat.rpartition(")")[2].split()[1]) == parent
    ]


@contextlib.contextmanager
def role(cluster: Cluster) -> Iterator[None]:
    cluster.execute("ALTER ROLE postgres SET synchronous_commit = off")
    yield
    cluster.execute("ALTER ROLE postgres RESET synchronous_commit")


@contextlib.contextmanager
def database(cluster: Cluster) -> Iterator[None]:
    cluster.execute("ALTER DATABASE events SET synchronous_commit = off")
    yield


@contextlib.contextmanager
def emitter(cluster: Cluster) -> Iterator[None]:
    yield


Setting = Callable[[Cluster], object]


def emit(using: str, number: int, *, local: bool) -> None:
    with transaction.atomic(using=using):
        outbox.emit(Counted("a", number), using=using)
        if local:
            with connections[using].cursor() as cursor:
                cursor.execute("SET LOCAL synchronous_commit = off")


def published_and_lost(
    cluster: Cluster, using: str, log: PostgreSQLLog, *, local: bool
) -> set[str]:
    """Return the ids that a broker got, and that are not in the log after a crash."""
    broker, shutdown = RecordingBroker(), Shutdown()
    relay = Relay(log, broker, RelaySettings(BACKEND="tests", RETRY_MAX=0.1), shutdown)
    broker.before_confirming = lambda: crash(cluster)
    try:
        relay._doorbell.connect()
        emit(using, 1, local=local)
        relay._doorbell.wait(10)
        while not broker.published:
            relay.sweep()
    finally:
        relay.close()
        shutdown.close()
        connections[using].close()
    known = Message.objects.using(using).values_list("message_id", flat=True)
    return {each.id for each in broker.published} - {str(each) for each in known}


class AtOnce(PostgreSQLLog):
    """Publishes what is visible, whether it is on disk or not."""

    def read(self, lane: int, size: int, sequence: int) -> Page:
        return dataclasses.replace(super().read(lane, size, sequence), durable=True)


@pytest.mark.parametrize("setting", [role, database, emitter])
def test_what_is_published_survives_a_crash(cluster: Cluster, using: str, setting: Setting) -> None:
    """Wherever synchronous_commit is off: the relay publishes only what is flushed."""
    with setting(cluster):  # type: ignore[attr-defined]
        log = PostgreSQLLog("test", using=using)
        assert published_and_lost(cluster, using, log, local=setting is emitter) == set()


@pytest.mark.parametrize("setting", [role, database, emitter])
def test_without_waiting_it_would_not(cluster: Cluster, using: str, setting: Setting) -> None:
    """A relay that publishes at once is found out by that crash."""
    with setting(cluster):  # type: ignore[attr-defined]
        log = AtOnce("test", using=using)
        assert len(published_and_lost(cluster, using, log, local=setting is emitter)) == 1


@pytest.mark.parametrize("mutant", [False, True])
def test_what_may_be_acknowledged_survives_a_crash(
    cluster: Cluster, using: str, mutant: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The transaction of a batch is on disk when it has committed, whatever the role says."""
    if mutant:
        monkeypatch.setattr(transactions, "_ON_DISK", "SELECT")
    handling = Handling()
    handling(lambda event, message: None)
    try:
        with role(cluster):
            receive(happened(1), using=using)
            crash(cluster)
            connections[using].close()
            # In the transaction of the handler's effects.
            assert Receipt.objects.using(using).count() == (0 if mutant else 1)
    finally:
        handling.forget()


def test_a_server_that_waits_for_no_disk_is_told(cluster: Cluster, using: str) -> None:
    """W021: there is nothing that a relay could wait for."""
    assert checks.durability(using) == []
    for setting in ("off", "on"):
        cluster.execute(f"ALTER SYSTEM SET fsync = {setting}")
        cluster.execute("SELECT pg_reload_conf()")
        connections[using].close()
        found = [each.id for each in checks.durability(using)]
        assert found == (["outbox.W021"] if setting == "off" else [])

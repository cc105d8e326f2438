"""A log in mid-flight is moved between real clusters; real relays go on there.

Whatever the ids are on either side: everything pending is published, what is emitted before the
relays start too, in order per key, and nothing that was published before.
"""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connections, transaction
from django.db.models.functions import Now
from django.test import override_settings

import outbox
from outbox.models import Message
from project.embedded import account
from project.embedded.server import program
from relay.brokers.base import Status
from relay.log import PostgreSQLLog
from relay.models import Checkpoint, Parked
from relay.parking.people import discard
from relay.states import ParkedState
from relay.transfer import transfer
from tests.kit.processes import run, running
from tests.kit.support import RecordingBroker
from tests.kit.waiting import until
from tests.proofs.moves.clusters import (
    Cluster,
    alias,
    dump_and_restore,
    dump_of,
    restore,
    tool,
)
from tests.testapp.events import Happened

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

RELAYS = ("ahead", "behind")
LANES = 8


@pytest.fixture(scope="module")
def low(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster that has given out few ids."""
    cluster = Cluster.with_database(tmp_path_factory.mktemp("low") / "pg")
    yield cluster
    cluster.server.stop()


@pytest.fixture(scope="module")
def high(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster that has given out more than ten billion."""
    cluster = Cluster.with_database(tmp_path_factory.mktemp("high") / "pg", epoch=3)
    yield cluster
    cluster.server.stop()


@pytest.fixture
def clusters(
    low: Cluster, high: Cluster, request: pytest.FixtureRequest
) -> tuple[Cluster, Cluster]:
    found = {"low": low, "high": high}
    source, target = request.param.split("-")
    return found[source], found[target]


@pytest.fixture(autouse=True)
def unblocked(django_db_blocker: pytest.FixtureRequest) -> Iterator[None]:
    with django_db_blocker.unblock(), override_settings(OUTBOX={"LANES": LANES}):  # type: ignore[attr-defined]
        yield


@dataclass
class Scene:
    """A service with two relays, one of which is behind the other, and what they have published."""

    directory: Path
    chance: random.Random
    number: int = 0
    before: dict[str, set[str]] = field(default_factory=lambda: {name: set() for name in RELAYS})

    def commit(self, using: str, *, nested: bool = False) -> None:
        with transaction.atomic(using=using):
            self.emit(using)
            if nested:
                with transaction.atomic(using=using):
                    self.emit(using)

    def emit(self, using: str) -> None:
        self.number += 1
        outbox.emit(Happened(self.chance.choice("abcdef"), self.number), using=using)

    def live(self, using: str, other: str) -> None:
        """Emit and publish for a while, with a late transaction, and stop half-way."""
        for step in range(60):
            self.commit(using, nested=step % 3 == 0)
            if step == 10:
                late = transaction.atomic(using=other)
                late.__enter__()
                self.emit(other)
            if step == 40:
                late.__exit__(None, None, None)
            for name in RELAYS if step < 30 else RELAYS[:1]:
                self.page(name, using, self.chance.randrange(LANES), self.chance.randint(1, 5))
        self.commit(using)

    def page(self, name: str, using: str, lane: int, size: int) -> None:
        broker = RecordingBroker()
        transfer(PostgreSQLLog(name, using=using), broker, lane, size)
        self.before[name] |= {each.id for each in broker.published}

    def park(self, using: str) -> None:
        """Let the first relay publish all there is, but new messages of two keys.

        Of the one, two wait behind a parked one. Of the other, a discarded one does not stand in
        the way of its successor any more.
        """
        broker = RecordingBroker()
        for key in "aaabb":
            with transaction.atomic(using=using):
                self.number += 1
                emitted = outbox.emit(Happened(key, self.number), using=using)
            broker.refuse[emitted.id] = Status.UNROUTABLE
        log = PostgreSQLLog(RELAYS[0], using=using)
        while Parked.objects.using(using).count() < 5:
            for lane in log.lanes_with_work(LANES):
                transfer(log, broker, lane, 5)
        unwanted = Parked.objects.using(using).filter(key="b").earliest("position")
        discard(Parked.objects.using(using).filter(pk=unwanted.pk), by="test")
        self.before[RELAYS[0]] |= {each.id for each in broker.published}
        self.before[RELAYS[0]].add(str(unwanted.message_id))  # not to be published from here on

    def keys_published(self, name: str, using: str) -> set[str | None]:
        """Return the keys of what a relay has published since the move."""
        ids = self.published(name)
        found = Message.objects.using(using).filter(message_id__in=ids)
        return set(found.values_list("key", flat=True))

    def relay(self, name: str, url: str) -> None:
        """Let a real relay publish all there is."""
        code, output = run(*self.command(name), **self.environment(url))
        assert code == 0, output

    @staticmethod
    def command(name: str) -> tuple[str, ...]:
        return ("relay", "--until-empty", "--relay", name, "--page-size", "7")

    def environment(self, url: str) -> dict[str, str]:
        path = "tests.testapp.brokers.FileBroker"
        relays = {n: {"BACKEND": path, "URL": str(self.directory / n)} for n in RELAYS}
        return {"DATABASE_URL": url, "BROKER_URL": "", "TEST_RELAYS": json.dumps(relays)}

    def published(self, name: str) -> list[str]:
        """Return the ids that a relay has published since the move, in order."""
        file = self.directory / name
        return file.read_text().split() if file.exists() else []

    def judge(self, using: str, *, exactly: bool = True) -> None:
        """Nothing lost, the order per key intact and, unless ids coincide, nothing twice."""
        rows = list(Message.objects.using(using).order_by("pk").values_list("message_id", "key"))
        ids = [str(message_id) for message_id, _key in rows]
        keys = {str(message_id): key for message_id, key in rows}
        for name in RELAYS:
            after = self.published(name)
            assert set(ids) - self.before[name] <= set(after), f"{name}: lost"
            assert len(after) == len(set(after)), f"{name}: twice since the move"
            if exactly:
                assert not self.before[name] & set(after), f"{name}: published before the move"
            for key in "abcdef":
                in_order = [each for each in ids if each in set(after) and keys[each] == key]
                assert [each for each in after if keys[each] == key] == in_order


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path, random.Random(4711))


@pytest.mark.parametrize("clusters", ["low-high", "high-low"], indirect=True)
@pytest.mark.parametrize("jobs", [1, 3])
def test_dump_and_restore_in_mid_flight(
    clusters: tuple[Cluster, Cluster], jobs: int, scene: Scene, tmp_path: Path
) -> None:
    """Two relays of different progress, a backlog, writers that do not wait for the relays."""
    source, target = clusters
    url = source.create("moving")
    with alias("source", url), alias("late", url):
        scene.live("source", "late")
        with transaction.atomic(using="late"):
            scene.emit("late")  # in flight while it is dumped: it never happened in the copy
            moved = dump_and_restore(
                source, target, "moving", tmp_path / "dump" / "moving", jobs=jobs
            )
            transaction.set_rollback(True, using="late")
    with alias("target", moved), alias("open", moved):
        backlog = Message.objects.using("target").count() - len(scene.before["ahead"])
        assert backlog > 3
        scene.commit("target", nested=True)
        with transaction.atomic(using="open"):
            scene.emit("open")
            scene.commit("target", nested=True)
            with running(*scene.command("behind"), **scene.environment(moved)) as process:
                scene.relay("ahead", moved)
                assert process.wait() == 0, process.output
            scene.judge("target")
        scene.commit("target")
        for name in RELAYS:
            scene.relay(name, moved)
        scene.judge("target")
        rebased = Checkpoint.objects.using("target").filter(count=0)
        chains = set(Checkpoint.objects.using("target").values_list("relay", "lane"))
        assert rebased.count() == len(chains)


@pytest.mark.parametrize("clusters", ["low-high", "high-low"], indirect=True)
def test_parked_keys_move_with_the_log(
    clusters: tuple[Cluster, Cluster], scene: Scene, tmp_path: Path
) -> None:
    """After the move the parked are tried, their keys follow in order; the discarded stay so."""
    source, target = clusters
    url = source.create("moving")
    with alias("source", url), alias("late", url):
        scene.live("source", "late")
        scene.park("source")
    moved = dump_and_restore(source, target, "moving", tmp_path / "dump" / "moving", jobs=2)
    with alias("target", moved):
        for _ in range(20):
            scene.commit("target")
        parked = Parked.objects.using("target")
        due = parked.filter(state=ParkedState.PARKED)
        assert sorted(due.values_list("key", flat=True)) == ["a", "b"]
        due.update(next_attempt_at=Now())
        for name in RELAYS:
            scene.relay(name, moved)
        scene.judge("target")
        states = parked.filter(key="a").values_list("state", flat=True)
        assert set(states) == {ParkedState.PUBLISHED}
        assert parked.filter(state=ParkedState.DISCARDED).count() == 1


@pytest.mark.parametrize("clusters", ["low-high", "high-low"], indirect=True)
def test_parked_rows_hold_their_keys_after_the_move(
    clusters: tuple[Cluster, Cluster], scene: Scene, tmp_path: Path
) -> None:
    """Until they are due nothing of their keys is published, only others; then all, in order."""
    source, target = clusters
    url = source.create("moving")
    with alias("source", url), alias("late", url):
        scene.live("source", "late")
        scene.park("source")
        parked = Parked.objects.using("source").filter(state=ParkedState.PARKED)
        parked.update(next_attempt_at=Now() + timedelta(hours=1))
        for _ in range(20):
            scene.commit("source", nested=True)  # a backlog, of all keys
    moved = dump_and_restore(source, target, "moving", tmp_path / "dump" / "moving", jobs=2)
    with alias("target", moved):
        for _ in range(20):
            scene.commit("target", nested=True)
        code, output = run(*scene.command("ahead"), **scene.environment(moved))
        assert code == 1, output  # something is left
        assert scene.keys_published("ahead", "target") == set("cdef")
        held = Parked.objects.using("target").filter(state=ParkedState.WAITING)
        assert set(held.values_list("key", flat=True)) == {"a", "b"}
        due = Parked.objects.using("target").filter(state=ParkedState.PARKED)
        assert sorted(due.values_list("key", flat=True)) == ["a", "b"]
        due.update(next_attempt_at=Now())
        for name in RELAYS:
            scene.relay(name, moved)
        scene.judge("target")
        assert scene.keys_published("ahead", "target") == set("abcdef")


@pytest.mark.parametrize("clusters", ["low-high", "high-low"], indirect=True)
@pytest.mark.parametrize("vacuum", ["", "VACUUM (FREEZE)"])
def test_transactions_that_are_older_than_the_restored_tables(
    clusters: tuple[Cluster, Cluster], vacuum: str, scene: Scene, tmp_path: Path
) -> None:
    """What such a transaction emits is pending, in a savepoint too; nothing else comes back."""
    source, target = clusters
    url = source.create("moving")
    dump = tmp_path / "dump" / "moving"
    with alias("source", url), alias("late", url):
        scene.live("source", "late")
    dump_of(source, "moving", dump)
    moved = target.create("moving", template="template1")
    with alias("one", moved), alias("two", moved), alias("target", moved):
        with transaction.atomic(using="one"), transaction.atomic(using="two"):
            for older in ("one", "two"):
                with connections[older].cursor() as cursor:
                    cursor.execute("SELECT pg_current_xact_id()")
            restore(target, "moving", dump)
            scene.commit("one", nested=True)
            with transaction.atomic(using="two"):
                scene.emit("two")
        if vacuum:
            target.execute(vacuum, "moving")
        scene.commit("target", nested=True)
        for name in RELAYS:
            scene.relay(name, moved)
        scene.judge("target")


def publish_all(using: str) -> list[int]:
    """Publish all there is with the first relay, in this process; return the numbers."""
    broker = RecordingBroker()
    log = PostgreSQLLog(RELAYS[0], using=using)
    while lanes := log.lanes_with_work(LANES):
        for lane in lanes:
            transfer(log, broker, lane, 7)
    return sorted(json.loads(message.data)["number"] for message in broker.published)


@pytest.mark.parametrize("clusters", ["high-low"], indirect=True)
@pytest.mark.parametrize("rewritten", [False, True])
def test_a_dump_with_a_single_checkpoint(
    clusters: tuple[Cluster, Cluster], rewritten: bool, scene: Scene, tmp_path: Path
) -> None:
    """It is told from a replica all the same; what a migration rewrites since is pending too."""
    source, target = clusters
    url = source.create("moving")
    dump = tmp_path / "dump" / "moving"
    with alias("source", url):
        scene.commit("source")
        assert publish_all("source") == [1]
        assert checkpoints("source") == 1
    dump_of(source, "moving", dump)
    moved = target.create("moving", template="template1")
    with alias("older", moved), alias("target", moved):
        with transaction.atomic(using="older"):
            with connections["older"].cursor() as cursor:
                cursor.execute("SELECT pg_current_xact_id()")
            restore(target, "moving", dump)
            if not rewritten:
                scene.emit("older")
        scene.commit("target", nested=True)
        if rewritten:
            target.execute(
                "ALTER TABLE django_outbox_message ALTER COLUMN version TYPE bigint", "moving"
            )
        wanted = {2, 3} if rewritten else {2, 3, 4}
        # With one row in it, a dump looks as an INSERT does: that one may come again.
        assert wanted <= set(publish_all("target")) <= wanted | {1}


@pytest.mark.parametrize("clusters", ["low-low", "high-high"], indirect=True)
def test_restored_into_the_cluster_that_it_came_from(
    clusters: tuple[Cluster, Cluster], scene: Scene, tmp_path: Path
) -> None:
    """The ids of the dump are ids of this cluster: nothing has to be rebased."""
    source, target = clusters
    url = source.create("moving")
    with alias("source", url), alias("late", url):
        scene.live("source", "late")
    moved = dump_and_restore(source, target, "moving", tmp_path / "dump" / "moving", jobs=1)
    with alias("target", moved):
        scene.commit("target", nested=True)
        for name in RELAYS:
            scene.relay(name, moved)
        scene.judge("target")
        assert not Checkpoint.objects.using("target").filter(count=0).exists()


def test_ids_that_interleave_cost_copies_and_no_loss(
    low: Cluster, scene: Scene, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A new cluster of about the same age: some ids may look like its own."""
    url = low.create("moving")
    with alias("source", url), alias("late", url):
        scene.live("source", "late")
    target = Cluster.at(tmp_path_factory.mktemp("twin") / "pg")
    try:
        ahead = low.value("SELECT pg_current_xact_id()::text::bigint")
        while target.value("SELECT pg_current_xact_id()::text::bigint") < ahead - 80:
            pass
        moved = dump_and_restore(low, target, "moving", tmp_path / "dump" / "moving", jobs=2)
        with alias("target", moved):
            scene.commit("target", nested=True)
            for name in RELAYS:
                scene.relay(name, moved)
            scene.judge("target", exactly=False)
    finally:
        target.server.stop()


@pytest.mark.parametrize("clusters", ["low-high", "high-low"], indirect=True)
def test_a_switch_to_a_logical_replica(clusters: tuple[Cluster, Cluster], scene: Scene) -> None:
    """Writers go over before the last checkpoints have come, in savepoints too."""
    source, target = clusters
    source.execute("ALTER SYSTEM SET wal_level = 'logical'")
    source.restart()
    url = source.create("moving")
    moved = target.create("moving")
    tables = "django_outbox_message, django_relay_checkpoint"
    source.execute(f"CREATE PUBLICATION moving FOR TABLE {tables}", "moving")
    target.execute(
        f"CREATE SUBSCRIPTION moving CONNECTION '{source.conninfo('moving')}' PUBLICATION moving",
        "moving",
    )
    try:
        with alias("source", url), alias("late", url), alias("target", moved):
            scene.live("source", "late")
            until(lambda: same("source", "target"), 60)
            target.execute(
                "SELECT setval(pg_get_serial_sequence('django_outbox_message', 'position'), 10000)",
                "moving",
            )
            scene.commit("target", nested=True)
            scene.page("ahead", "source", lane_with_backlog("source"), 2)
            until(lambda: checkpoints("source") == checkpoints("target"), 60)
            target.execute(
                "SELECT setval(pg_get_serial_sequence('django_relay_checkpoint', 'id'), 10000)",
                "moving",
            )
            target.execute("DROP SUBSCRIPTION moving", "moving")
            scene.commit("target", nested=True)
            for name in RELAYS:
                scene.relay(name, moved)
            scene.judge("target")
    finally:
        if target.value("SELECT count(*) FROM pg_subscription", "moving"):
            target.execute("DROP SUBSCRIPTION moving", "moving")


def same(one: str, other: str) -> bool:
    counts = [Message.objects.using(using).count() for using in (one, other)]
    return counts[0] == counts[1] and checkpoints(one) == checkpoints(other)


def checkpoints(using: str) -> int:
    return Checkpoint.objects.using(using).count()


def lane_with_backlog(using: str) -> int:
    return PostgreSQLLog("ahead", using=using).lanes_with_work(LANES)[0]


def test_pg_upgrade_goes_on_exactly(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Ids go on, the cluster is another one: nothing twice, nothing lost."""
    directory = tmp_path_factory.mktemp("upgrade")
    old = Cluster.with_database(directory / "old")
    new = Cluster.at(directory / "new")
    try:
        with alias("source", old.create("moving")), alias("late", old.url("moving")):
            scene.live("source", "late")
    finally:
        old.server.stop()
        new.server.stop()
    binaries = str(program("postgres").parent)
    work = directory / "work"
    work.mkdir()
    account.give(work)
    arguments = ["-b", binaries, "-B", binaries, "-d", str(directory / "old")]
    arguments += ["-D", str(directory / "new"), "-U", "postgres", "-s", str(work)]
    tool("pg_upgrade", *arguments, directory=str(work))
    new.server.start()
    try:
        moved = new.url("moving")
        with alias("target", moved):
            scene.commit("target", nested=True)
            for name in RELAYS:
                scene.relay(name, moved)
            scene.judge("target")
            assert Checkpoint.objects.using("target").filter(count=0).exists()
    finally:
        new.server.stop()

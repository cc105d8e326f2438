"""A log that was restored or moved: nothing is lost, nothing is silent.

Here a log is made to look restored, within one cluster; tests/proofs/moves does it with real ones.
"""

import logging
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection, connections, transaction
from django.db.models import F
from django.test import Client, override_settings

from outbox.models import Message
from relay.exceptions import MovedDatabase
from relay.locks import REBASE_KEY
from relay.log import PostgreSQLLog
from relay.log import rebase as rebase_module
from relay.log.rebase import rebase
from relay.models import Checkpoint
from relay.replay import Replay, Selection
from relay.sql import log as sql
from relay.sql import rebase as statements
from relay.transfer import transfer
from tests.kit.admin_pages import ALL_MODELS, detail_url, log_in, page, shown
from tests.kit.sessions import Session, sessions
from tests.kit.support import RecordingBroker
from tests.relay.log.moving import (
    LANES,
    MOVES,
    Reading,
    commit,
    emit,
    explain,
    lane_of_a,
    move,
    move_from_higher,
    move_from_lower,
    number_of,
    rebased,
)

pytestmark = [pytest.mark.usefixtures("two_lanes"), pytest.mark.django_db(transaction=True)]


@pytest.fixture
def two() -> Iterator[list[Session]]:
    with sessions(2) as opened:
        yield opened


@pytest.mark.parametrize("move", MOVES)
def test_what_is_pending_is_published_and_nothing_else(move: Callable[[], None]) -> None:
    """After a move each relay goes on exactly where it was, whatever the ids are."""
    ahead, behind = Reading("ahead"), Reading("behind")
    commit(1, 2, 3)
    assert behind.all() == ahead.all() == [1, 2, 3]
    commit(4, 5)
    assert ahead.all() == [4, 5]
    commit(6, 7)
    move()

    assert ahead.all() == [6, 7]
    assert behind.all() == [4, 5, 6, 7]
    commit(8)
    assert ahead.all() == behind.all() == [8]
    assert ahead.all() == behind.all() == []


@pytest.mark.parametrize("move", MOVES)
def test_a_window_that_was_half_published(move: Callable[[], None], two: list[Session]) -> None:
    """The cursor stood within a window, with rows of late transactions around it."""
    slow, _ = two
    slow.begin()
    slow.run(emit, 1, 2)
    reading = Reading()
    commit(3, 4)
    assert reading.all() == [3, 4]
    slow.run(emit, 5)
    slow.commit()
    commit(6, 7, 8)
    lanes = reading.log.lanes_with_work(LANES)
    reading.page(lanes[0], 2)
    assert reading.broker.numbers()[2:] == [1, 2]
    move()

    assert reading.all() == [5, 6, 7, 8]


@pytest.mark.parametrize("move", MOVES)
def test_what_was_emitted_before_the_relay_started_comes_after_the_old(
    move: Callable[[], None],
) -> None:
    """Rows of this cluster are pending, however low their ids, and follow those of their key."""
    reading = Reading()
    commit(1)
    reading.all()
    commit(2, 3)
    move()
    commit(4)

    def nested() -> None:
        with transaction.atomic():
            emit(5)
            with transaction.atomic():
                emit(6)

    with transaction.atomic():
        nested()

    assert reading.all() == [2, 3, 4, 5, 6]


@pytest.mark.parametrize("move", MOVES)
def test_savepoints_of_a_transaction_that_began_before_the_checkpoints_came(
    move: Callable[[], None], two: list[Session]
) -> None:
    """Emitting may begin before the last checkpoint has been restored, in a savepoint too."""
    early, _ = two
    reading = Reading()
    for number in (0, 1):
        commit(number)
        reading.all()
    early.begin()

    def nested() -> None:
        with transaction.atomic():
            emit(2)

    move()
    early.run(nested)
    early.commit()
    # As logical replication does: the checkpoints are written again, each under a later id.
    for checkpoint in Checkpoint.objects.order_by("pk"):
        Checkpoint.objects.filter(pk=checkpoint.pk).update(count=F("count"))

    assert reading.all() == [2]


@pytest.mark.parametrize("move", MOVES)
def test_a_transaction_in_flight_during_the_rebase(
    move: Callable[[], None], two: list[Session]
) -> None:
    """What was open while the cursors were carried over is published when it commits."""
    slow, fast = two
    reading = Reading()
    commit(1)
    reading.all()
    commit(2)
    move()
    slow.begin()
    slow.run(emit, 3)
    fast.begin()
    assert reading.all() == [2]
    fast.run(emit, 4, key="b")
    fast.commit()
    assert reading.all() == [4]
    slow.commit()

    assert reading.all() == [3]


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("seed", range(3))
def test_writers_that_do_not_stop_for_it(move: Callable[[], None], seed: int) -> None:
    """Emitting all through a rebase: all of it is published, in order per key."""
    chance = random.Random(seed)
    relays = [Reading("one"), Reading("two")]
    numbers = iter(range(10**6))
    for _ in range(20):
        commit(next(numbers), next(numbers), key=chance.choice("abcd"))
        chance.choice(relays).page(chance.randrange(LANES), chance.randint(1, 5))
    before = {each: set(each.broker.numbers()) for each in relays}
    move()

    def write(key: str, first: int) -> None:
        for number in range(first, first + 25):
            with transaction.atomic():
                emit(number, key=key)
                with transaction.atomic():
                    emit(number + 1000, key=key)
        connections.close_all()

    with ThreadPoolExecutor(4) as pool:
        writers = [pool.submit(write, key, 100_000 * n) for n, key in enumerate("wxyz", start=1)]
        while not all(writer.done() for writer in writers):
            for each in relays:
                each.all()
        for writer in writers:
            writer.result()
    emitted = {number_of(message) for message in Message.objects.all()}
    positions = {number_of(message): message.pk for message in Message.objects.all()}
    for each in relays:
        each.all()
        published = each.broker.numbers()
        assert set(published) == emitted
        assert len(published) == len(emitted), "published twice"
        assert len(before[each]) < len(emitted)
        for key in "abcdwxyz":
            of_key = [n.id for n in each.broker.published if n.key == key]
            in_order = list(Message.objects.filter(key=key).order_by("pk"))
            assert of_key == [str(message.message_id) for message in in_order]
    assert len(positions) == len(emitted)


def test_only_what_looks_new_is_rewritten() -> None:
    """What is published and visible keeps its id; the log is not rewritten for its own sake."""
    reading = Reading()
    commit(1, 2)
    reading.all()
    commit(3)
    move_from_lower()
    before = dict(Message.objects.values_list("pk", "transaction_id"))
    reading.all()

    after = dict(Message.objects.values_list("pk", "transaction_id"))
    assert [before[pk] == after[pk] for pk in sorted(before)] == [True, True, False]


def test_published_rows_with_high_ids_do_not_come_back() -> None:
    """Ids that this cluster has yet to reach are replaced, so that no poll finds them for ever."""
    reading = Reading()
    commit(1, 2)
    reading.all()
    move_from_higher()
    assert reading.all() == []

    assert reading.log.lanes_with_work(LANES) == []
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")
        [reached] = cursor.fetchone()
    assert max(Message.objects.values_list("transaction_id", flat=True)) < reached


def test_a_relay_without_checkpoints_reads_a_moved_log() -> None:
    """A new relay on a restored log starts at its beginning, in order, ids out of reach or not."""
    commit(1, 2)
    commit(3, key="b")
    move_from_higher()
    commit(4)

    assert sorted(Reading().all()) == [1, 2, 3, 4]
    assert Reading("another").all() == Reading("a third").all()


def test_a_relay_that_starts_now_starts_now_on_a_moved_log() -> None:
    """START "now" without a checkpoint: nothing of what was restored, all that comes."""
    commit(1, 2)
    move_from_higher()
    reading = Reading(start="now")
    assert reading.all() == []
    commit(3)

    assert reading.all() == [3]


@pytest.mark.parametrize("move", MOVES)
def test_a_relay_from_now_keeps_its_start_in_lanes_it_has_not_read(
    move: Callable[[], None],
) -> None:
    """Lanes without a chain, also those that come later, go on from the start, wherever it was."""
    commit(1, key="a")
    commit(2, key="b")
    reading = Reading(start="now")
    assert reading.all() == []
    commit(3, key="b")
    move()
    commit(4, key="a")

    assert sorted(reading.all()) == [3, 4]
    with override_settings(OUTBOX={"LANES": 8}):
        for number in range(5, 20):
            commit(number, key=str(number))
        log = reading.log
        while lanes := log.lanes_with_work(8):
            for lane in lanes:
                reading.page(lane)
    assert sorted(reading.broker.numbers()) == [3, 4, *range(5, 20)]


def test_a_relay_that_began_after_the_move_keeps_what_it_has_done() -> None:
    """Its cursor is of this cluster: rebasing another relay's must not send its rows again."""
    old = Reading("old")
    commit(1, 2)
    old.all()
    commit(3)
    move_from_lower()
    commit(4)
    new = Reading("new")
    # It finds no cursor to complain about: another's is not its own.
    assert new.all() == [1, 2, 3, 4]
    commit(5)

    assert old.all() == [3, 4, 5]
    assert new.all() == [5]


def test_ids_that_coincide_are_published_again_not_lost() -> None:
    """An id of the old cluster that may be one of ours: its row is sent once more."""
    reading = Reading()
    commit(1)
    reading.all()
    commit(2)
    Checkpoint.objects.update(system_identifier=42)  # nothing else tells the clusters apart

    assert reading.all() == [1, 2]


@pytest.mark.parametrize("offset", [10**9, 10**4])
def test_a_clone_with_the_same_identifier_is_noticed(offset: int) -> None:
    """A cursor with ids beyond the one it was written under was written elsewhere."""
    reading = Reading()
    commit(1)
    reading.all()
    commit(2)
    move(offset, system_identifier=0)  # keeps the identifier
    commit(3)

    assert reading.all() == [2, 3]


def test_a_clone_is_noticed_by_its_cursor_alone() -> None:
    """A cursor younger than its own row, though by now this cluster has reached its ids."""
    reading = Reading()
    commit(1)
    reading.all()
    move(2000, system_identifier=0)
    commit(2)
    burn(3000)

    assert reading.all() == [2]


def burn(count: int) -> None:
    """Use up transaction ids, by savepoints."""
    with connection.cursor() as cursor:
        cursor.execute(f"""
            DO $$ BEGIN
                CREATE TEMPORARY TABLE burnt (n int) ON COMMIT DROP;
                FOR n IN 1..{count} LOOP
                    BEGIN INSERT INTO burnt VALUES (n); EXCEPTION WHEN OTHERS THEN NULL; END;
                END LOOP;
            END $$""")


def test_a_log_that_stayed_is_left_alone() -> None:
    """Without a move nothing is rebased, in whatever state the chains are."""
    reading = Reading()
    commit(1, 2, 3, 4, 5)
    reading.page(lane_of_a(), 2)
    before = Checkpoint.objects.count()

    assert rebase("default")
    assert Checkpoint.objects.count() == before
    assert reading.all() == [3, 4, 5]
    assert rebased() == []


def test_a_log_can_move_twice() -> None:
    """There and back again: each move is one checkpoint in each chain."""
    reading = Reading()
    commit(1)
    reading.all()
    for number, mover in enumerate([move_from_higher, move_from_lower], start=2):
        commit(number)
        mover()
        assert reading.all() == [number]

    assert len(rebased()) == 2


def test_nobody_reads_a_page_during_a_rebase(two: list[Session]) -> None:
    """While the log is rebased no lane is to be had."""
    rebasing, _ = two
    commit(1)
    reading = Reading()
    rebasing.begin()
    rebasing.run(lock_exclusively)
    assert reading.page(lane_of_a()) is None
    rebasing.commit()

    assert reading.all() == [1]


def test_a_rebase_lets_pages_at_work_finish(two: list[Session]) -> None:
    """A page in the middle of publishing puts the rebase off; the log is looked at again later."""
    publishing, _ = two
    reading = Reading()
    commit(1)
    reading.all()
    commit(2)
    move_from_higher()
    publishing.begin()
    assert publishing.run(PostgreSQLLog("other", using="default").acquire, 0) is not None
    assert rebase("default") is False
    assert rebased() == []
    with pytest.raises(MovedDatabase):
        reading.page(lane_of_a())
    publishing.commit()

    assert reading.all() == [2]


def lock_exclusively() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s, 0)", [REBASE_KEY])


def test_several_processes_meet_a_moved_log() -> None:
    """However many find it at once, each chain is extended once."""
    for name in ("one", "two"):
        commit(1)
        Reading(name).all()
    commit(2)
    move_from_higher()

    def meet() -> bool:
        try:
            return rebase("default")
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(lambda _: meet(), range(4)))

    assert sorted(each.relay for each in rebased()) == ["one", "two"]


def test_it_is_told_once_in_words(caplog: pytest.LogCaptureFixture) -> None:
    """What was found, how much is to be published, and that copies are possible."""
    caplog.set_level(logging.WARNING, "relay")
    for name in ("one", "two"):
        commit(1)
        Reading(name).all()
    commit(2)
    move_from_higher()
    Reading("one").all()
    Reading("two").all()

    found, done = [record.getMessage() for record in caplog.records]
    assert "the cursors of one, two were written in another cluster (42)" in found
    assert "To be published: 2 by relay 'one', 1 by relay 'two'" in done
    assert "may have been published before the move" in done


@pytest.mark.parametrize("published", [20_000, 0])
def test_after_a_rebase_a_page_costs_what_a_page_costs(published: int) -> None:
    """Neither a long history nor a long backlog under one id is walked through for a page."""
    reading = Reading()
    commit(*range(-published, 0), 0)
    lane = lane_of_a()
    reading.page(lane, published + 1)
    commit(*range(1, 20_000 - published + 100))
    move_from_lower()
    assert rebase("default")
    costs: list[list[int]] = []

    class Explaining(PostgreSQLLog):
        def _query(self, statement, parameters):  # type: ignore[no-untyped-def]
            if statement in (sql.PG_PAGE, sql.PG_PAGE_WITH_STRAGGLERS):
                plan = explain(statement, parameters)
                costs[-1].append(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])
            return super()._query(statement, parameters)

    log = Explaining("test", using="default")
    for size in (10, 10_000, 10):
        costs.append([])  # a page is read once more if it was not on disk
        transfer(log, reading.broker, lane, size)

    assert max(costs[0]) < 40
    assert max(costs[2]) < 40
    numbers = reading.broker.numbers()[published:]
    assert numbers == [*range(len(numbers))]


@pytest.mark.parametrize("published", [1_000, 0])
def test_statistics_taken_during_a_restore_make_no_rebase_slow(
    published: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They say that the log is empty; no row of it may be looked at once for every other."""
    reading = Reading()
    commit(*range(published + 1))
    reading.page(lane_of_a(), published + 1)
    commit(*range(published + 1, 1_100))
    move_from_lower()
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_outbox_message")
        cursor.execute("ANALYZE django_outbox_message")
        transaction.set_rollback(True)
    looked_at = []

    def explaining(using: str, statement: str, parameters: dict[str, Any]) -> Any:
        if statement in (statements.GROUPS, statements.REWRITE):
            with transaction.atomic():
                looked_at.append(rows_of(explain(statement, parameters)))
                transaction.set_rollback(True)
        return query(using, statement, parameters)

    query = rebase_module._query
    monkeypatch.setattr(rebase_module, "_query", explaining)
    assert rebase("default")

    assert len(looked_at) == 2
    assert max(looked_at) < 20_000


def rows_of(plan: dict[str, Any]) -> int:
    """Count the rows that all nodes of a plan that was run have given or dropped."""
    dropped = [plan.get(each, 0) for each in plan if each.startswith("Rows Removed by")]
    mine = (plan["Actual Rows"] + sum(dropped)) * plan["Actual Loops"]
    return int(mine) + sum(map(rows_of, plan.get("Plans", ())))


def test_a_replay_waits_for_the_rebase() -> None:
    """What was published can't be told in a moved log, so nothing is replayed before."""
    reading = Reading()
    commit(1)
    reading.all()
    move_from_higher()
    broker = RecordingBroker()
    with pytest.raises(MovedDatabase, match="Start the relay first"):
        Replay("test", broker, Selection(), using="default").begin()
    reading.all()
    replay = Replay("test", broker, Selection(), using="default")
    replay.begin()
    while replay.page():
        pass

    assert broker.numbers() == [1]


def test_the_admin_says_what_was_published_before_the_move(client: Client) -> None:
    """Checkpoints of another cluster do not tell which of them it was."""
    reading = Reading("default")
    commit(1)
    reading.all()
    move_from_higher()
    reading.all()
    log_in(client, *ALL_MODELS)

    assert "before the database was moved" in shown(page(client, detail_url(Message.objects.get())))

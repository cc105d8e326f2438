"""The reader on PostgreSQL, one interleaving at a time."""

import dataclasses
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from outbox.models import Message
from relay.exceptions import MovedDatabase, StaleCursor
from relay.log import Page, PostgreSQLLog
from relay.models import Checkpoint
from relay.sql import log as sql
from relay.transfer import transfer
from tests.kit.sessions import Session, sessions
from tests.kit.support import RecordingBroker
from tests.proofs.concurrency import mutants
from tests.relay.log.reading import Reading, commit, emit, on_disk

pytestmark = [pytest.mark.usefixtures("one_lane"), pytest.mark.django_db(transaction=True)]


@pytest.fixture
def two() -> Iterator[list[Session]]:
    with sessions(2) as opened:
        yield opened


class AtOnce(PostgreSQLLog):
    """Takes everything to be on disk: the snapshot of the first look is the ceiling."""

    def read(self, lane: int, size: int, sequence: int) -> Page:
        return dataclasses.replace(super().read(lane, size, sequence), durable=True)


class StartFromSnapshotAtOnce(mutants.StartFromSnapshot, AtOnce):
    pass


class WithoutEarlyIdsAtOnce(mutants.WithoutEarlyIds, AtOnce):
    pass


class Sending(PostgreSQLLog):
    """Keeps the rows that the database sent last."""

    def _query(self, statement: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
        self.sent = super()._query(statement, parameters)
        return self.sent


class Explaining(PostgreSQLLog):
    """Keeps the plan of the last statement that reads."""

    def _query(self, statement: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
        # To analyse the others would be to execute what they set.
        analyze = "ANALYZE" if statement == sql.PG_CURSOR else "COSTS"
        plan = super()._query(f"EXPLAIN ({analyze}) {statement}", parameters)
        self.plan = "\n".join(row[0] for row in plan)
        return super()._query(statement, parameters)


def messages_read(plan: str) -> int:
    """Return how many rows a plan that was analysed got from the messages."""
    found = re.findall(r"on django_outbox_message.*actual time=\S+ rows=([\d.]+) loops=(\d+)", plan)
    assert found, plan
    return round(sum(float(rows) * int(loops) for rows, loops in found))


def read(log: PostgreSQLLog, size: int = 1000) -> Page:
    with transaction.atomic():
        return log.read(0, size, log.acquire(0) or 0)


def test_what_commits_is_published_once() -> None:
    """Committed events come out once, in order; a second look finds nothing."""
    commit(1, 2, 3)
    reading = Reading(page_size=2)

    assert reading.all() == [1, 2, 3]
    commit(4)
    assert reading.all() == [1, 2, 3, 4]
    assert not reading.log.lanes_with_work(1)


def test_rolled_back_events_are_never_read() -> None:
    """A gap in the positions, left by a rollback, holds nothing up."""
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        emit(1)
        raise ZeroDivisionError
    commit(2)

    assert Reading().all() == [2]


def test_an_open_transaction_delays_only_its_own_events(two: list[Session]) -> None:
    """Events beside a transaction held open flow at once, its own when it commits."""
    slow, fast = two
    slow.begin()
    slow.run(emit, 1)
    reading = Reading()
    for number in (2, 3, 4):
        fast.run(commit, number)
        assert reading.all()[-1] == number
    slow.commit()

    assert reading.all() == [2, 3, 4, 1]


def test_a_low_position_that_commits_late_is_not_skipped(two: list[Session]) -> None:
    """Cursor past a position, transaction still open: its row is read when it commits."""
    slow, fast = two
    slow.begin()
    slow.run(emit, 1)
    fast.run(commit, 2)
    reading = Reading()
    assert reading.all() == [2]
    fast.run(commit, 3)
    assert reading.all() == [2, 3]
    slow.commit()

    assert reading.all() == [2, 3, 1]


def test_position_rules_where_an_old_id_emits_late(two: list[Session]) -> None:
    """A transaction with the older id that emitted after another is published after it."""
    old, young = two
    assert old.begin() < young.begin()
    young.run(emit, 1)
    young.commit()
    old.run(emit, 2)
    old.commit()

    assert Reading().all() == [1, 2]


def test_ids_at_work_when_the_ceiling_was_taken_may_stand_below_the_sequence(
    two: list[Session],
) -> None:
    """An id that is not below xmax, with a position drawn before the ceiling, is not skipped."""
    early, other = two
    other.run(commit, 1)
    early.begin()
    early.run(emit, 2)
    reading = Reading(AtOnce("test", using="default"))
    # Nothing younger has finished, so this ceiling's xmax is the open transaction's own id.
    assert reading.all() == [1]
    early.commit()
    assert reading.all() == [1, 2]


@pytest.mark.parametrize("mutant", [StartFromSnapshotAtOnce, WithoutEarlyIdsAtOnce])
def test_a_sequence_that_does_not_go_with_the_ids_would_skip_it(
    mutant: type[PostgreSQLLog], two: list[Session]
) -> None:
    """Mutants that start at the sequence of when a ceiling was taken lose such an event."""
    early, other = two
    reading = Reading(mutant("test", using="default"))
    # Ids are the cluster's: somebody else's transaction may finish in between and hide the loss.
    for attempt in range(0, 100, 2):
        other.run(commit, attempt)
        early.begin()
        early.run(emit, attempt + 1)
        reading.page()
        early.commit()
        for _ in range(3):
            reading.page()
        if attempt + 1 not in reading.broker.numbers():
            return
    pytest.fail("nothing was lost in fifty attempts")


def test_savepoints_belong_to_their_transaction(two: list[Session]) -> None:
    """Rows of released savepoints are read with their transaction, rolled back ones never."""

    def work() -> None:
        with transaction.atomic():
            emit(1)
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            emit(2)
            raise ZeroDivisionError
        emit(3)

    slow, fast = two
    slow.begin()
    slow.run(work)
    fast.run(commit, 4)
    reading = Reading()
    assert reading.all() == [4]
    slow.commit()

    assert reading.all() == [4, 1, 3]


def test_a_window_is_read_in_pages_with_rows_landing_in_between(two: list[Session]) -> None:
    """What commits while a window is read in pages waits for the next window."""
    slow, fast = two
    slow.begin()
    slow.run(emit, 1)
    commit(2, 3, 4, 5, 6)
    reading = Reading(page_size=2)
    reading.page()
    slow.commit()
    fast.run(commit, 7)
    reading.page()
    assert reading.broker.numbers() == [2, 3, 4, 5]

    assert reading.all() == [2, 3, 4, 5, 6, 1, 7]


def test_a_page_ends_before_it_is_too_large() -> None:
    """Pages have at most so many bytes of data, and the window ends with the last of them."""
    commit(*range(1_000_000, 1_000_007))
    size = len(Message.objects.earliest("pk").data)
    reading = Reading(PostgreSQLLog("test", using="default", page_bytes=3 * size))
    reading.page()
    assert reading.broker.pages == [3]
    assert not Checkpoint.objects.latest("pk").complete
    reading.all()

    assert reading.broker.pages == [3, 3, 1]
    assert Checkpoint.objects.latest("pk").complete
    assert reading.broker.numbers() == [*range(1_000_000, 1_000_007)]


def test_a_message_larger_than_a_page_goes_alone() -> None:
    """However small the bound, a page has a message, so the log always moves on."""
    commit(1, 2, 3)
    reading = Reading(PostgreSQLLog("test", using="default", page_bytes=1))
    reading.all()

    assert reading.broker.pages == [1, 1, 1]


def test_a_page_with_stragglers_has_the_same_bound(two: list[Session]) -> None:
    """Rows of late transactions and new ones share the bytes of a page, in order of position."""
    slow, fast = two
    slow.begin()
    slow.run(emit, 1, 2, 3)
    fast.run(commit, 4)
    size = len(Message.objects.earliest("pk").data)
    reading = Reading(PostgreSQLLog("test", using="default", page_bytes=2 * size))
    reading.all()
    slow.commit()
    fast.run(commit, 5, 6)
    reading.all()

    assert reading.broker.pages == [1, 2, 2, 1]
    assert reading.broker.numbers() == [4, 1, 2, 3, 5, 6]


def test_what_is_behind_the_page_stays_in_the_database() -> None:
    """Neither the messages that are too much for a page nor one more to look ahead are sent."""
    commit(*range(100))
    log = Sending("test", using="default", page_bytes=1000)
    on_disk(log)
    page = read(log)
    assert 1 < len(page) == len(log.sent) < 100

    log = Sending("test", using="default")
    on_disk(log)
    assert len(read(log, 7)) == len(log.sent) == 7


def test_of_what_is_not_on_disk_one_row_is_read() -> None:
    """The page is asked for again when all of it may be published."""
    commit(*range(100))
    log = Sending("test", using="default")
    seen = set()
    with transaction.atomic(), sessions(1) as [other]:
        for number in range(50):
            emit(number)  # what is written here nobody waits for, but the server may be quick
            page = other.run(read, log)
            seen.add((page.durable, len(log.sent)))

    assert (False, 1) in seen
    assert {sent for durable, sent in seen if not durable} == {1}


@pytest.mark.parametrize("late", [False, True])
def test_a_page_is_read_by_index_without_fresh_statistics(late: bool, two: list[Session]) -> None:
    """Pages walk an index in its order, however wrong the planner is about the backlog."""
    slow, _ = two
    slow.begin()
    slow.run(emit, 1)
    if late:
        Reading().all()
        commit(2)
        Reading().all()
        slow.commit()
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE django_outbox_message")
    commit(*range(3, 3000))
    log = Explaining("test", using="default")
    read(log, 10)

    assert "Index" in log.plan
    for wasteful in ("Seq Scan", "Bitmap", *(() if late else ("Sort",))):
        assert wasteful not in log.plan


def test_many_rows_of_one_straggler_are_paged_in_order(two: list[Session]) -> None:
    """A transaction in flight at the floor may own more rows than a page, below new ones."""
    slow, fast = two
    slow.begin()
    slow.run(emit, *range(1, 8))
    reading = Reading(page_size=3)
    fast.run(commit, 100)
    reading.all()
    fast.run(commit, 101)
    reading.all()
    slow.run(emit, 8, 9)
    slow.commit()
    fast.run(commit, 102)

    assert reading.all() == [100, 101, *range(1, 10), 102]


def test_after_a_large_window_the_next_one_finds_its_own_start(
    two: list[Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Past LARGE_WINDOW messages a window starts where its lowest new row stands."""
    slow, fast = two
    slow.begin()
    slow.run(emit, 1)
    commit(*range(2, sql.LARGE_WINDOW + 10))
    reading = Reading(page_size=20_000)
    reading.all()
    fast.run(commit, 20_001, 20_002)
    slow.run(emit, 20_003)
    slow.commit()

    assert reading.all()[-4:] == [1, 20_001, 20_002, 20_003]
    assert Checkpoint.objects.latest("id").window_start > sql.LARGE_WINDOW


def test_after_a_large_window_nothing_new_but_a_straggler(two: list[Session]) -> None:
    """A large window followed by nothing but what was in flight at its ceiling."""
    slow, _ = two
    commit(1)
    slow.begin()
    slow.run(emit, 2)
    commit(*range(3, sql.LARGE_WINDOW + 10))
    reading = Reading(page_size=20_000)
    reading.all()
    slow.commit()

    assert reading.all()[-1] == 2


class AlwaysLarge(Explaining):
    """Takes every window for a large one."""

    large_window = -1


def test_the_start_behind_a_large_window_is_found_without_a_look_at_the_backlog() -> None:
    """What commits while a large window is read, page by page, costs the next one nothing."""
    commit(1, 2, 3, 4)
    log = AlwaysLarge("test", using="default")
    reading = Reading(log, page_size=2)
    reading.page()
    commit(*range(5, 2000))
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE django_outbox_message")
    reading.page()
    assert Checkpoint.objects.latest("pk").complete
    with transaction.atomic():
        sequence = log.acquire(0) or 0
        cursor = log._look_up(0)
        window = log._window(0, sequence, cursor, cursor.now)

    assert window.start == Message.objects.order_by("pk")[3].pk
    assert messages_read(log.plan) < 10


def test_ids_from_before_a_large_window_was_opened_are_not_skipped(two: list[Session]) -> None:
    """Transactions at work when a large window began may stand below the bound of what follows."""
    early, other = two
    other.run(commit, 1)
    early.begin()
    early.run(emit, 2)
    reading = Reading(AlwaysLarge("test", using="default"))
    # Nothing younger has finished, so this ceiling's xmax is the open transaction's own id.
    assert reading.all() == [1]
    early.run(emit, 3)
    early.commit()
    other.run(commit, 4)

    assert reading.all() == [1, 2, 3, 4]
    assert Checkpoint.objects.earliest("pk").sequence >= Message.objects.order_by("pk")[1].pk


@pytest.mark.parametrize("pruned", [False, True])
def test_a_large_window_whose_opening_is_gone_is_walked_over(pruned: bool) -> None:
    """Without the checkpoint that gives the bound, an older one holds: nothing is lost."""
    commit(*range(6))
    reading = Reading(AlwaysLarge("test", using="default"), page_size=2)
    for _ in range(3):
        reading.page()
    if pruned:
        Checkpoint.objects.filter(previous=0).delete()
    commit(6, 7)

    assert reading.all() == [*range(8)]


def test_a_new_relay_starts_at_the_beginning() -> None:
    """Another relay reads the same log from its start, independently."""
    commit(1, 2)
    Reading().all()

    assert Reading(PostgreSQLLog("second", using="default")).all() == [1, 2]


def test_a_relay_that_starts_now_leaves_history_alone(two: list[Session]) -> None:
    """START "now": nothing that was committed, everything that was in flight or comes later."""
    slow, fast = two
    commit(1)
    slow.begin()
    slow.run(emit, 2)
    reading = Reading(PostgreSQLLog("late", using="default", start="now"))
    assert reading.all() == []
    slow.commit()
    fast.run(commit, 3)

    assert reading.all() == [2, 3]


def test_a_lane_in_work_is_left_alone_until_its_reader_is_gone(two: list[Session]) -> None:
    """A second process gets nothing of a locked lane, and all of it once the lock is free."""
    other, _ = two
    commit(1)
    other.begin()
    assert other.run(PostgreSQLLog("test", using="default").acquire, 0) is not None
    reading = Reading()
    assert reading.page() is None
    other.rollback()

    assert reading.all() == [1]


def test_a_stale_owner_cannot_checkpoint() -> None:
    """The chain is a fence: a page read before another process's checkpoint is void."""
    commit(1)
    log = PostgreSQLLog("test", using="default")
    with transaction.atomic():
        page = log.read(0, 10, log.acquire(0) or 0)
    Reading().all()

    with pytest.raises(StaleCursor, match="another process"), transaction.atomic():
        log.checkpoint(page, 1, by="me", duration=timedelta(0))


def test_a_log_from_another_cluster_is_refused() -> None:
    """Checkpoints of another database cluster stop the relay, loudly, before it reads."""
    commit(1)
    reading = Reading()
    reading.all()
    Checkpoint.objects.update(system_identifier=42)
    commit(2)

    with pytest.raises(MovedDatabase, match="cluster 42"):
        reading.page()
    assert reading.broker.numbers() == [1]


@pytest.mark.parametrize("messages", [1, 10, 100])
def test_a_page_costs_the_same_statements_however_full(messages: int) -> None:
    """Lock, cursor, page, checkpoint: four statements and one row, for 1 or 100 messages."""
    commit(*range(messages))
    reading = Reading()
    on_disk(reading.log)
    with CaptureQueriesContext(connection) as queries:
        reading.page()

    statements = [q["sql"] for q in queries if q["sql"] not in ("BEGIN", "COMMIT")]
    assert len(statements) == 4, statements
    assert Checkpoint.objects.count() == 1


def test_an_idle_poll_is_one_statement_for_all_lanes_and_writes_nothing() -> None:
    """However many lanes, looking whether there is work costs one statement."""
    commit(1)
    reading = Reading()
    reading.all()
    before = Checkpoint.objects.count()
    with CaptureQueriesContext(connection) as queries:
        assert reading.log.lanes_with_work(64) == []

    assert len(queries) == 1
    assert Checkpoint.objects.count() == before


def test_until_the_checkpoint_the_relay_owns_no_id_and_pins_nothing() -> None:
    """While it publishes, the relay's transaction has neither a transaction id nor a snapshot."""
    commit(1)
    seen = []

    class Looking(RecordingBroker):
        def publish(self, page):  # type: ignore[no-untyped-def]
            with sessions(1) as [other]:
                seen.append(other.run(backend_state, pid))
            return super().publish(page)

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        pid = cursor.fetchone()[0]
    transfer(PostgreSQLLog("test", using="default"), Looking(), 0, 10)

    assert seen == [("idle in transaction", None, None)]


def backend_state(pid: int) -> tuple[str, str | None, str | None]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT state, backend_xid::text, backend_xmin::text FROM pg_stat_activity "
            "WHERE pid = %s",
            [pid],
        )
        return cursor.fetchone()

"""Nothing is published that is not on disk, so that a crash of the server takes nothing back."""

import pytest
from django.db import connection, transaction

from outbox.producer.sql import NOTIFY_BYTES
from relay.log import PostgreSQLLog
from relay.log.postgresql import Witness
from tests.relay.log.reading import Reading, commit, emit, on_disk

pytestmark = [pytest.mark.usefixtures("one_lane"), pytest.mark.django_db(transaction=True)]


def commit_unflushed(*numbers: int) -> int:
    """Commit without waiting for the disk; return up to where that is in the server's log."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL synchronous_commit = off")
        emit(*numbers)
    return position("insert")


def position(what: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT pg_wal_lsn_diff(pg_current_wal_{what}_lsn(), '0/0')::bigint")
        return int(cursor.fetchone()[0])


def test_nothing_is_published_that_is_not_on_disk() -> None:
    """In whatever way it has been committed, and whatever else is written meanwhile."""
    reading, ends, seen = Reading(), [], []
    reading.broker.before_confirming = lambda: seen.append(position("flush"))
    for number in range(20):
        ends.append(commit_unflushed(number))
        reading.page()

    assert reading.broker.numbers() == [*range(20)]
    assert all(flushed >= end for flushed, end in zip(seen, ends, strict=True))


def test_an_earlier_snapshot_that_is_on_disk_saves_the_flush(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What came after it waits for the next look, which has it flushed."""
    reading, flushed = Reading(), []
    commit(1)
    on_disk(reading.log)
    flush = reading.log.flush
    monkeypatch.setattr(reading.log, "flush", lambda: flushed.append(flush()))
    commit_unflushed(2)
    reading.page()
    first = reading.broker.numbers()
    reading.page()

    assert reading.broker.numbers() == [1, 2]
    # Unless the server has flushed all of it by itself.
    assert (first, len(flushed)) in (([1], 1), ([1], 0), ([1, 2], 0))


def test_a_snapshot_is_no_witness_if_it_does_not_fit() -> None:
    """Made up, of the time before a crash, not on disk, or older than the newest checkpoint."""
    log = PostgreSQLLog("test", using="default")
    taken = Witness("100:110:105", 5 << 32)

    def usable(text: str, checkpoint: int | None = None) -> bool:
        log.hear(text)
        return log._usable(taken, (4 << 32) + 0xFF, checkpoint) is not None

    assert usable("4/FF 100:108:105")
    assert usable("4/0 100:108:105", checkpoint=107)
    assert not usable("4/100 100:108:105")
    assert not usable("4/0 100:108:105", checkpoint=108)
    assert not usable("4/0 100:108:105", checkpoint=105)
    assert not usable("4/0 100:111:105")
    assert not usable("4/0 100:108:")


TOO_LONG = f"0/1 100:9000:{','.join(map(str, range(1000, 2600)))}"[:NOTIFY_BYTES]


@pytest.mark.parametrize(
    "text", ["", "x", "1:2:3", "1/0", "1/0 1:2", "1/0 1:2: x", "x/0 1:2:", "1 1:2:", TOO_LONG]
)
def test_what_others_say_on_the_channel_is_no_witness(text: str) -> None:
    log = PostgreSQLLog("test", using="default")
    log.hear(text)

    assert log._witness is None

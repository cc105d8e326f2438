"""Message ids: UUIDv7, strictly increasing."""

import itertools
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from uuid import RFC_4122, UUID

import pytest

from outbox.message import ids
from outbox.message.ids import uuid7_text


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Sets the time, in milliseconds; afterwards the ids go on where they were."""
    kept = ids._last_ms, ids._counter
    monkeypatch.setattr(ids, "_last_ms", 0)

    def set_time(milliseconds: int) -> None:
        monkeypatch.setattr(ids.time, "time_ns", lambda: milliseconds * 1_000_000 + 999_999)

    yield set_time
    monkeypatch.undo()
    ids._last_ms, ids._counter = kept


def uuid7() -> UUID:
    return UUID(uuid7_text())


def milliseconds(value: UUID) -> int:
    return value.int >> 80


def test_layout():
    """Version 7 and the variant of RFC 9562, and the time in front."""
    before = time.time_ns() // 1_000_000
    value = uuid7()
    after = time.time_ns() // 1_000_000

    assert (value.version, value.variant) == (7, RFC_4122)
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-.{12}", str(value))
    # Ids made in one burst by an earlier test may be ahead of the clock, never behind.
    assert before <= milliseconds(value) <= after + 1


def test_increasing(clock: Callable[[int], None]):
    """100,000 ids are strictly increasing, as numbers and as text."""
    made = [uuid7() for _ in range(100_000)]

    assert all(one < other for one, other in itertools.pairwise(made))
    texts = list(map(str, made))
    assert texts == sorted(texts)


def test_increasing_across_threads():
    """Each thread sees increasing ids, and no two threads the same."""
    made: list[list[UUID]] = [[] for _ in range(8)]
    start = threading.Barrier(8)

    def work(own: list[UUID]) -> None:
        start.wait()
        own += [uuid7() for _ in range(5000)]

    threads = [threading.Thread(target=work, args=(own,)) for own in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert all(own == sorted(own) for own in made)
    assert len({each for own in made for each in own}) == 40_000


def test_standing_clock(clock: Callable[[int], None]):
    """Within a millisecond a counter makes the order, and its start is random."""
    clock(1000)
    made = [uuid7() for _ in range(1000)]
    clock(1001)
    later = uuid7()

    assert {milliseconds(each) for each in made} == {1000}
    assert [*made, later] == sorted({*made, later})
    assert milliseconds(later) == 1001


def test_clock_stepping_back(clock: Callable[[int], None]):
    """When the clock steps back, the time of the last id is kept until it catches up."""
    clock(5000)
    first = uuid7()
    clock(3000)
    second = uuid7()
    clock(5001)
    third = uuid7()

    assert first < second < third
    assert list(map(milliseconds, (first, second, third))) == [5000, 5000, 5001]


def test_full_counter(clock: Callable[[int], None], monkeypatch: pytest.MonkeyPatch):
    """A counter that is full goes on in the next millisecond."""
    clock(1000)
    uuid7()
    monkeypatch.setattr(ids, "_counter", ids._COUNTER_MAX)
    last = UUID(int=(1000 << 80) | (7 << 76) | (0xFFF << 64) | (0b10 << 62) | (2**62 - 1))

    assert uuid7() > last


def test_room_to_count(clock: Callable[[int], None]):
    """A new millisecond starts in the lower half of the counter."""
    for moment in range(1000, 1200):
        clock(moment)
        uuid7()
        assert ids._counter <= ids._COUNTER_MAX >> 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_fork(clock: Callable[[int], None]):
    """A forked child makes ids of its own, even if another thread held the lock."""
    clock(1000)
    uuid7()
    reader, writer = os.pipe()
    with ids._lock:
        pid = os.fork()
        if pid == 0:  # the child; it must not return to pytest
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(20)  # should it wait for the lock for ever
            try:
                os.write(writer, b"".join(uuid7().bytes for _ in range(100)))
            finally:
                os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        received = pipe.read()
    os.waitpid(pid, 0)
    theirs = {UUID(bytes=received[i : i + 16]) for i in range(0, len(received), 16)}
    ours = {uuid7() for _ in range(100)}

    assert len(theirs) == 100
    assert not theirs & ours
    # Not neighbours either: the child counts from a seed of its own.
    assert abs((min(theirs).int >> 32) - (min(ours).int >> 32)) > 1000


def test_text():
    """The text is the usual one, whatever the bits of an id, and in the same order."""
    made = [uuid7_text() for _ in range(1000)]

    assert made == [str(UUID(each)) for each in made]
    assert made == sorted(made)

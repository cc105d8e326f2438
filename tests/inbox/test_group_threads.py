"""Several groups in one process: each consumes by itself, fails alone, stops with the others."""

import json
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import ProgrammingError, connection

from inbox import Retry, group_threads
from inbox.consumer import Consumer
from inbox.group_threads import GroupThreads
from inbox.management.commands.consume import figures
from outbox.runtime.backoff import Backoff
from outbox.runtime.shutdown import Shutdown
from tests.inbox.support import (
    Handling,
    Queue,
    block_effects,
    closing_shutdown,
    effects,
    fail,
    happened,
    in_thread,
    make_queue,
    postgresql,
    records,
    waiting_for_lock,
)
from tests.kit.processes import Process
from tests.kit.sessions import sessions
from tests.kit.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A group that has failed is begun again at once."""
    monkeypatch.setattr(group_threads, "BACKOFF", Backoff(base=0.05, cap=0.05))


@pytest.fixture
def other(queue: Queue) -> Iterator[Queue]:
    """The queue of a second group on the same exchange."""
    found = make_queue(queue.url, f"{queue.name}-other", EXCHANGE=queue.exchange)
    yield found
    with found.channel() as channel:
        channel.queue_delete(found.queue)


def consumers(shutdown: Shutdown, *queues: Queue) -> GroupThreads:
    return GroupThreads([each.consumer(shutdown) for each in queues], shutdown)


def test_all_groups_are_drained(queue: Queue, other: Queue, handling: Handling) -> None:
    """Each message is handled by each of the groups; it ends when all are empty."""
    handling(name="one")
    handling(name="two", declared_group=other.name)
    queue.declare()
    other.declare()
    queue.publish(*[happened(number) for number in range(20)])
    with closing_shutdown() as shutdown:
        assert consumers(shutdown, queue, other).run(until_empty=True) is True

    assert sorted(effects()) == sorted([*range(20)] * 2)
    assert queue.ready() == other.ready() == 0


def test_until_empty_tells_of_a_failure_in_any_group(
    queue: Queue, other: Queue, handling: Handling
) -> None:
    """The others are drained all the same."""
    handling(fail, name="failing")
    handling(declared_group=other.name)
    queue.declare()
    other.declare()
    queue.publish(happened(1))
    with closing_shutdown() as shutdown:
        assert consumers(shutdown, queue, other).run(until_empty=True) is False

    assert effects() == [1]


@postgresql
def test_a_slow_group_holds_up_no_other(queue: Queue, other: Queue, handling: Handling) -> None:
    """While its handler waits, the other one's go on."""
    seen: list[int] = []
    handling(name="slow")
    handling(
        lambda event, message: seen.append(event.number), name="quick", declared_group=other.name
    )
    queue.declare()
    other.declare()
    with closing_shutdown() as shutdown, sessions(1) as [blocker]:
        running = consumers(shutdown, queue, other)
        blocker.begin()
        blocker.run(block_effects)
        with in_thread(running.run) as background:
            queue.publish(happened(1))
            until(waiting_for_lock)
            queue.publish(*[happened(number) for number in range(2, 50)])
            until(lambda: len(seen) == 49)
            assert effects() == []
            blocker.commit()
            until(lambda: effects() == [*range(1, 50)])
            shutdown.request()
        assert background.get() is True


class Failing(Consumer):
    """A consumer that meets a mistake of the code for so many times."""

    times = 1

    def _take_turn(self, *, now: bool = False) -> bool:
        if self.times:
            self.times -= 1
            raise ProgrammingError("a mistake")
        return super()._take_turn(now=now)


def failing(queue: Queue, shutdown: Shutdown, times: int = 1) -> Failing:
    found = Failing(queue.name, url=queue.url, conf=queue.conf, using="default", shutdown=shutdown)
    found.times = times
    return found


def test_a_group_fails_alone_and_is_begun_again(
    queue: Queue, other: Queue, handling: Handling, caplog: pytest.LogCaptureFixture
) -> None:
    """What it has ended with is in the log, with its name."""
    handling(name="one")
    handling(name="two", declared_group=other.name)
    queue.declare()
    other.declare()
    with closing_shutdown() as shutdown:
        steady = queue.consumer(shutdown)
        running = GroupThreads([failing(other, shutdown, times=3), steady], shutdown)
        with in_thread(running.run) as background:
            until(lambda: len(told(caplog, other)) == 3)
            queue.publish(happened(1))
            until(lambda: effects() == [1, 1])
            shutdown.request()
        assert background.get() is True

    assert "ProgrammingError: a mistake" in told(caplog, other)[0]
    assert "Other groups go on; trying again in" in told(caplog, other)[0]
    assert told(caplog, queue) == []


def test_it_is_not_ready_while_a_group_has_ended(
    queue: Queue, other: Queue, handling: Handling
) -> None:
    """Nor before all of them consume; when it is begun again it is."""
    handling(name="one")
    handling(name="two", declared_group=other.name)
    queue.declare()
    other.declare()
    with closing_shutdown() as shutdown:
        bad = failing(other, shutdown, times=1)
        running = GroupThreads([bad, queue.consumer(shutdown)], shutdown)
        assert running.missing == "starting"
        with in_thread(running.run) as background:
            until(lambda: "a group has ended" in running.missing)
            until(lambda: running.missing == "")
            shutdown.request()
        assert background.get() is True


def told(caplog: pytest.LogCaptureFixture, queue: Queue) -> list[str]:
    return records(caplog, f"The consumer of group {queue.name!r} has ended")


def test_when_all_have_failed_the_process_ends(
    queue: Queue, other: Queue, handling: Handling
) -> None:
    """As that of a single group does: a supervisor starts it again."""
    handling(name="one")
    handling(name="two", declared_group=other.name)
    with closing_shutdown() as shutdown:
        running = GroupThreads(
            [failing(each, shutdown, times=99) for each in (queue, other)], shutdown
        )
        with pytest.raises(ProgrammingError, match="a mistake"):
            running.run()
        assert shutdown.requested


def test_a_group_that_ends_with_an_error_while_all_stop_is_told(
    queue: Queue, other: Queue, handling: Handling
) -> None:
    """The process must not look as if all had ended well."""
    handling(name="one")
    handling(name="two", declared_group=other.name)
    queue.declare()
    other.declare()

    class FailsAtTheEnd(Consumer):
        def _take_turn(self, *, now: bool = False) -> bool:
            shutdown.request()
            raise ProgrammingError("a mistake")

    with closing_shutdown() as shutdown:
        late = FailsAtTheEnd(
            other.name, url=other.url, conf=other.conf, using="default", shutdown=shutdown
        )
        with pytest.raises(ProgrammingError, match="a mistake"):
            GroupThreads([late, queue.consumer(shutdown)], shutdown).run()


def test_a_group_that_waits_to_be_begun_again_when_all_stop_is_told(
    queue: Queue, other: Queue, handling: Handling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has ended with an error, and nothing has shown since that it works again."""
    monkeypatch.setattr(group_threads, "BACKOFF", Backoff(base=60.0, cap=60.0))
    handling(name="one")
    handling(name="two", declared_group=other.name)
    queue.declare()
    other.declare()
    with closing_shutdown() as shutdown:
        running = GroupThreads([failing(other, shutdown), queue.consumer(shutdown)], shutdown)
        with in_thread(running.run) as background:
            until(lambda: running._failed)
            shutdown.request()
        with pytest.raises(ProgrammingError, match="a mistake"):
            background.get()


def test_until_empty_raises_what_a_group_has_ended_with(
    queue: Queue, other: Queue, handling: Handling
) -> None:
    """When the others are done."""
    handling(name="one")
    handling(name="two", declared_group=other.name)
    queue.declare()
    queue.publish(happened(1))
    with closing_shutdown() as shutdown:
        running = GroupThreads([failing(other, shutdown), queue.consumer(shutdown)], shutdown)
        with pytest.raises(ProgrammingError, match="a mistake"):
            running.run(until_empty=True)

    assert effects() == [1]


def test_figures_are_sums_and_those_of_each(queue: Queue, other: Queue, handling: Handling) -> None:
    """As text without what is 0, for a line on a terminal."""

    def put_off(event: object, message: object) -> None:
        raise Retry(after=60)  # a random pause could be over before the end

    handling(put_off, name="failing")
    handling(name="two", declared_group=other.name)
    queue.declare()
    other.declare()
    queue.publish(happened(1), happened(2))
    with closing_shutdown() as shutdown:
        each = [queue.consumer(shutdown), other.consumer(shutdown)]
        GroupThreads(each, shutdown).run(until_empty=True)
        found: dict[str, Any] = figures(each)

    assert (found["received"], found["handled"], found["retrying"]) == (4, 2, 2)
    assert found["groups"][queue.name]["retrying"] == found["groups"][other.name]["handled"] == 2
    assert f"{queue.name} received 2 retrying 2" in str(found["groups"])
    assert "group" not in found
    assert figures(each[:1])["group"] == queue.name
    assert json.loads(json.dumps(found))["groups"][other.name]["handled"] == 2


@postgresql
def test_no_session_of_a_thread_is_left(queue: Queue, other: Queue, handling: Handling) -> None:
    """Each group has one of its own, which ends with it."""
    pids: set[int] = set()

    def note(event: object, message: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            pids.add(cursor.fetchone()[0])

    handling(note, name="one")
    handling(note, name="two", declared_group=other.name)
    queue.declare()
    other.declare()
    queue.publish(happened(1))
    with closing_shutdown() as shutdown:
        consumers(shutdown, queue, other).run(until_empty=True)

    assert len(pids) == 2
    until(lambda: not alive(pids))


def alive(pids: set[int]) -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE pid = ANY(%s)", [list(pids)])
        return int(cursor.fetchone()[0])


@pytest.mark.slow
@postgresql
def test_a_signal_finishes_the_batches_of_all_and_exits_0(
    queue: Queue, database_url: str, handling: Handling, broker_url: str
) -> None:
    """What has begun is committed and acknowledged, the rest stays; each group says what it did."""
    prefix = f"{queue.name}."
    ours = make_queue(broker_url, "tests", EXCHANGE=queue.exchange, QUEUE_PREFIX=prefix)
    theirs = make_queue(broker_url, "billing", EXCHANGE=queue.exchange, QUEUE_PREFIX=prefix)
    environment = {
        "DATABASE_URL": database_url,
        "BROKER_URL": queue.url,
        "TEST_EXCHANGE": queue.exchange,
        "TEST_INBOX": json.dumps({"PREFETCH": 10, "QUEUE_PREFIX": prefix}),
    }
    handling.group = "tests"
    handling(name="bound")
    ours.declare()
    ours.publish(*[happened(number) for number in range(30)])
    groups = ["--group", "tests", "--group", "billing"]
    try:
        with (
            sessions(1) as [blocker],
            Process("consume", *groups, **environment) as process,
        ):
            blocker.begin()
            blocker.run(block_effects)
            process.wait_for(waiting_for_lock)
            process.wait_for(lambda: consumed(theirs))
            process.send(signal.SIGTERM)
            blocker.commit()
            assert process.wait() == 0, process.output
            figures = json.loads(process.output.splitlines()[-1])
        handled = len(effects())
        assert 1 <= handled <= 20
        until(lambda: ours.ready() == 30 - handled)
    finally:
        with queue.channel() as channel:
            channel.queue_delete(ours.queue)
            channel.queue_delete(theirs.queue)

    assert (figures["message"], figures["handled"]) == ("stopped", handled)
    assert figures["groups"]["tests"]["handled"] == handled
    assert figures["groups"]["billing"]["received"] == 0


def consumed(queue: Queue) -> bool:
    try:
        return queue.consumers() == 1
    except Exception:
        return False

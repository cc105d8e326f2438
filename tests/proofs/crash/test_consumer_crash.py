"""The consumer is killed with SIGKILL at each point that matters, and started again."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import connection

from inbox.models import Receipt
from outbox.message.envelope import Envelope
from tests.inbox.support import (
    Queue,
    block_effects,
    bound_queue,
    happened,
    make_due,
    make_queue,
    waiting_for_lock,
)
from tests.kit.processes import Process, run
from tests.kit.sessions import sessions
from tests.kit.waiting import until
from tests.proofs.crash.two_groups import GUILTY, INNOCENT
from tests.testapp.models import Effect

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]

MESSAGES = 60


@pytest.fixture
def queue(broker_url: str) -> Iterator[Queue]:
    """A queue that no other test uses, bound to the test app's event."""
    with bound_queue(broker_url) as found:
        yield found


@pytest.fixture
def environment(queue: Queue, database_url: str) -> dict[str, str]:
    return {
        "DATABASE_URL": database_url,
        "BROKER_URL": queue.url,
        "TEST_EXCHANGE": queue.exchange,
        "TEST_GROUP": queue.name,
        "TEST_INBOX": json.dumps({"PREFETCH": 10}),
    }


@pytest.fixture
def published(queue: Queue) -> list[Envelope]:
    messages = [happened(number) for number in range(MESSAGES)]
    queue.publish(*messages)
    return messages


def assert_each_was_handled_once(published: list[Envelope]) -> None:
    ids = sorted(message.id for message in published)
    assert sorted(Effect.objects.values_list("message_id", flat=True)) == ids
    assert sorted(Receipt.objects.values_list("message_id", flat=True)) == ids


def duplicates(output: str) -> int:
    """What the last line, of the figures, says."""
    return int(json.loads(output.splitlines()[-1])["duplicates"])


@pytest.mark.parametrize(
    "failpoint", ["inbox.received", "inbox.handled", "inbox.committed", "inbox.acked"]
)
def test_a_killed_consumer_loses_nothing_and_repeats_nothing(
    failpoint: str,
    queue: Queue,
    environment: dict[str, str],
    published: list[Envelope],
) -> None:
    """SIGKILL in the third batch: every message ends with one effect and one receipt.

    Before the commit nothing of the batch has happened. Between commit and acknowledgement it
    has, and the broker delivers it again: those are duplicates, and suppressed.
    """
    arguments = ("consume", "--group", queue.name, "--until-empty")
    with Process(*arguments, failpoint=f"{failpoint}:3", **environment) as killed:
        assert killed.wait() == -signal.SIGKILL, killed.output
    done = Effect.objects.count()
    assert done == Receipt.objects.count()
    assert 0 < done < MESSAGES

    # The broker notices the death a moment later.
    until(lambda: not queue.consumers())
    code, output = run(*arguments, **environment)

    assert code == 0, output
    assert_each_was_handled_once(published)
    assert (duplicates(output) > 0) is (failpoint == "inbox.committed")
    assert queue.ready() == 0


def test_a_consumer_killed_in_a_handler_loses_nothing(
    queue: Queue, environment: dict[str, str], published: list[Envelope]
) -> None:
    """SIGKILL while a statement of a handler runs: the database undoes the batch."""
    arguments = ("consume", "--group", queue.name, "--until-empty")
    with sessions(1) as [blocker], Process(*arguments, **environment) as killed:
        blocker.begin()
        blocker.run(block_effects)
        killed.wait_for(waiting_for_lock)
        killed.send(signal.SIGKILL)
        assert killed.wait() == -signal.SIGKILL
        blocker.rollback()
    # The server ends the session of the dead process when it next writes to it.
    until(lambda: not others())
    until(lambda: not queue.consumers())
    before = Effect.objects.count()
    assert before == Receipt.objects.count()

    code, output = run(*arguments, **environment)

    assert code == 0, output
    assert_each_was_handled_once(published)


def test_a_crash_repeats_about_a_second_of_slow_handlers(
    queue: Queue, environment: dict[str, str], tmp_path: Path
) -> None:
    """What a handler does outside the database is done again for one short batch, not for 16."""
    queue.publish(*[happened(number) for number in range(23)])
    sent = tmp_path / "sent"
    sent.touch()
    environment |= {"TEST_FILE": str(sent), "TEST_INBOX": "{}"}
    arguments = ("consume", "--group", queue.name, "--until-empty")

    def emails() -> list[int]:
        return [int(line) for line in sent.read_text().split()]

    with Process(*arguments, **environment, TEST_SECONDS="0.2") as killed:
        killed.wait_for(lambda: len(emails()) >= 16)
        killed.send(signal.SIGKILL)
        assert killed.wait() == -signal.SIGKILL
    until(lambda: not others())
    until(lambda: not queue.consumers())
    done = Effect.objects.count()

    code, output = run(*arguments, **environment, TEST_SECONDS="0")

    assert code == 0, output
    assert set(emails()) == set(range(23))
    repeated = len(emails()) - 23
    assert repeated == 16 - done
    assert repeated <= 1.0 / 0.2 + 1
    assert Effect.objects.count() == 23


def others() -> int:
    """How many other sessions the database has."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
        return int(cursor.fetchone()[0])


def test_a_second_consumer_takes_over_from_a_dead_one(
    queue: Queue, environment: dict[str, str], published: list[Envelope]
) -> None:
    """One of two is killed: the other handles what it had taken."""
    arguments = ("consume", "--group", queue.name)
    with (
        Process(*arguments, failpoint="inbox.committed:2", **environment) as first,
        Process(*arguments, **environment) as second,
    ):
        until(lambda: Effect.objects.count() == MESSAGES)
        if first.running:  # the second was so fast that the first did not see two batches
            queue.publish(*published)
        until(lambda: queue.ready() == 0)
        second.send(signal.SIGTERM)
        assert second.wait() == 0, second.output
        if first.running:
            first.send(signal.SIGTERM)
            first.wait()

    assert_each_was_handled_once(published)


@pytest.mark.parametrize("failpoint", ["inbox.retrying", "inbox.retried"])
def test_a_consumer_killed_in_a_turn_repeats_nothing_and_loses_nothing(
    failpoint: str, queue: Queue, environment: dict[str, str], published: list[Envelope]
) -> None:
    """SIGKILL before and after the commit of retries: what is due is handled once, by the next."""
    arguments = ("consume", "--group", queue.name, "--until-empty")
    code, output = run(*arguments, **environment, TEST_FAIL="all")
    assert code == 1, output
    assert Receipt.objects.filter(state="retrying").count() == MESSAGES
    make_due()

    with Process(*arguments, failpoint=failpoint, **environment) as killed:
        assert killed.wait() == -signal.SIGKILL, killed.output
    # The server ends the session of the dead process a moment later.
    until(lambda: not others())
    done = Effect.objects.count()
    assert done == Receipt.objects.filter(state="processed").count()
    assert (done > 0) is (failpoint == "inbox.retried")

    code, output = run(*arguments, **environment)

    assert code == 0, output
    assert_each_was_handled_once(published)
    assert set(Receipt.objects.values_list("state", flat=True)) == {"processed"}


def test_a_handler_that_ends_its_process_stops_nobody_else(
    queue: Queue, environment: dict[str, str], published: list[Envelope]
) -> None:
    """One message kills every process that handles it: after a few it is dead, all others done.

    The first death takes a batch along, the second the turn that handles what was redelivered;
    from then on it is handled alone.
    """
    arguments = ("consume", "--group", queue.name, "--until-empty")
    deaths = 0
    while True:
        code, output = run(*arguments, **environment, TEST_KILL="7")
        if code != -signal.SIGKILL:
            break
        deaths += 1
        assert deaths < 10, output
        until(lambda: not queue.consumers())
        until(lambda: not others())

    assert code == 1, output
    assert deaths == 1 + 3
    dead = Receipt.objects.exclude(state="processed").get()
    assert (dead.message_id, dead.state, dead.reason) == (published[7].id, "dead", "crashed")
    assert (dead.attempts, dead.begun) == (3, None)
    assert "3 processes ended, or lost the database, while its handler ran for it" in output
    assert Effect.objects.count() == MESSAGES - 1
    assert queue.ready() == 0

    run("inbox_retry", "--reason", "crashed", "--wait", "0", **environment)
    code, output = run(*arguments, **environment)

    assert code == 0, output
    assert_each_was_handled_once(published)


class TwoGroups(Process):
    """`manage.py` of a service with one more group that ends its process, and one that is slow."""

    program = ("-m", "tests.proofs.crash.two_groups")


def test_a_message_that_ends_its_process_is_held_against_no_other_group(
    queue: Queue, environment: dict[str, str]
) -> None:
    """What a neighbour had in hand at each of the deaths is processed; the guilty one is dead."""
    groups = [
        make_queue(queue.url, f"{queue.name}.{name}", EXCHANGE=queue.exchange)
        for name in (GUILTY, INNOCENT)
    ]
    arguments = ["consume", *[f"--group={each.name}" for each in groups], "--until-empty"]
    deaths = 0
    try:
        with TwoGroups(*arguments, **environment) as process:
            assert process.wait() == 0, process.output  # it declares and binds
        queue.publish(happened(7))
        while True:
            with TwoGroups(*arguments, **environment) as process:
                if (code := process.wait()) != 9:
                    break
            deaths += 1
            assert deaths <= 5
            until(lambda: not any(each.consumers() for each in groups))
    finally:
        with queue.channel() as channel:
            for each in groups:
                channel.queue_delete(each.queue)

    assert code == 1, "one is dead"
    assert Receipt.objects.get(handler=INNOCENT).state == "processed"
    assert list(Effect.objects.values_list("number", "handler")) == [(7, INNOCENT)]
    dead = Receipt.objects.get(handler=GUILTY)
    assert (dead.state, dead.reason) == ("dead", "crashed")
    assert deaths in (3, 4, 5)

"""SQLite has one writer at a time: groups and processes take turns, and none gives up."""

import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.inbox.six_groups import NAMES
from tests.inbox.support import Handling, Queue, happened, make_queue
from tests.kit.processes import Process, run

pytestmark = [
    pytest.mark.sqlite,
    pytest.mark.only_sqlite,
    pytest.mark.slow,
    pytest.mark.django_db(transaction=True),
]

MESSAGES = 150


class SixGroups(Process):
    """`manage.py`, with the groups of tests.inbox.six_groups."""

    program = ("-m", "tests.inbox.six_groups")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A migrated database file that has no options, as `startproject` makes it."""
    found = tmp_path / "db.sqlite3"
    code, output = run("migrate", "--run-syncdb", **plain(found))
    assert code == 0, output
    return found


@pytest.fixture
def queues(queue: Queue, handling: Handling) -> Iterator[list[Queue]]:
    """A queue for each of the six groups, with the same messages in all of them."""
    found = []
    for name in NAMES:
        each = make_queue(queue.url, f"{queue.name}.{name}", EXCHANGE=queue.exchange)
        handling(name=name, declared_group=each.name)
        each.declare()
        found.append(each)
    queue.publish(*[happened(number) for number in range(MESSAGES)])
    yield found
    with queue.channel() as channel:
        for each in found:
            channel.queue_delete(each.queue)


def plain(file: Path) -> dict[str, str]:
    return {"DJANGO_SETTINGS_MODULE": "tests.inbox.plain_sqlite", "TEST_SQLITE": str(file)}


def environment(queue: Queue, file: Path) -> dict[str, str]:
    return {
        **plain(file),
        "BROKER_URL": queue.url,
        "TEST_EXCHANGE": queue.exchange,
        "TEST_GROUP": queue.name,
    }


def effects(file: Path) -> Counter[str]:
    """How many effects each handler has left."""
    with closing(sqlite3.connect(file)) as connection:
        rows = connection.execute("SELECT handler, count(*) FROM testapp_effect GROUP BY 1")
        return Counter(dict(rows.fetchall()))


def test_groups_of_a_process_take_turns(queue: Queue, queues: list[Queue], file: Path) -> None:
    """Each handles all of its messages, while batches of the others take seconds."""
    groups = [f"--group={each.name}" for each in queues]
    with SixGroups("consume", *groups, "--until-empty", **environment(queue, file)) as process:
        code = process.wait(120)
        assert (code, "locked" in process.output) == (0, False), process.output

    assert effects(file) == dict.fromkeys(NAMES, MESSAGES)


def test_processes_take_turns(queue: Queue, queues: list[Queue], file: Path) -> None:
    """A process for each group does the same."""
    running = [
        SixGroups("consume", f"--group={each.name}", "--until-empty", **environment(queue, file))
        for each in queues
    ]
    try:
        for process in running:
            assert process.wait(120) == 0, process.output
    finally:
        for process in running:
            process.__exit__(None, None, None)

    assert effects(file) == dict.fromkeys(NAMES, MESSAGES)

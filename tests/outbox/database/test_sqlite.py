"""Who writes to a SQLite file, and who waits for whom."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import connections
from django.db.backends.sqlite3.base import DatabaseWrapper

from outbox.database.sqlite import only_writer

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db]


class Writers:
    """Connections to SQLite files, to be used in any thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.opened: list[DatabaseWrapper] = []

    def __call__(self, name: str) -> DatabaseWrapper:
        settings = connections.configure_settings(
            {
                "default": {},
                name: {"ENGINE": "django.db.backends.sqlite3", "NAME": self._folder / name},
            }
        )[name]
        made = DatabaseWrapper(settings, alias="default")  # which tests may use
        made.inc_thread_sharing()
        self.opened.append(made)
        return made


@pytest.fixture
def writers(tmp_path: Path) -> Iterator[Writers]:
    made = Writers(tmp_path)
    yield made
    for each in made.opened:
        each.close()


def writes(connection: DatabaseWrapper, wrote: threading.Event) -> threading.Thread:
    """A thread that has its turn as a writer."""

    def run() -> None:
        with only_writer(connection):
            wrote.set()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_writers_of_another_file_wait_for_nobody(writers: Writers) -> None:
    """A long transaction in one file holds up nobody in another."""
    wrote = threading.Event()
    with only_writer(writers("one")):
        thread = writes(writers("other"), wrote)
        waited = not wrote.wait(10)
    thread.join()

    assert not waited


def test_writers_of_the_same_file_take_turns(writers: Writers) -> None:
    """Threads of a process queue, whatever connection each has."""
    wrote = threading.Event()
    with only_writer(writers("one")):
        thread = writes(writers("one"), wrote)
        assert not wrote.wait(0.1)
    thread.join()

    assert wrote.is_set()

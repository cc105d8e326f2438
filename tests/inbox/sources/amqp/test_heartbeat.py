"""Heartbeats from a thread, in place of the thread that consumes."""

import threading
import time
from types import SimpleNamespace

import pytest

from inbox.sources.amqp.heartbeat import Heartbeat
from tests.kit.waiting import until

pytestmark = pytest.mark.sqlite


class Link:
    """Counts heartbeats; `fail` makes them fail, `gate` holds them back."""

    heartbeat = 0.02

    def __init__(self) -> None:
        self.sent = 0
        self.fail = False
        self.gate = threading.Event()
        self.gate.set()
        self.sending = threading.Event()

    def send_heartbeat(self) -> None:
        self.sending.set()
        self.gate.wait(10)
        if self.fail:
            raise OSError
        self.sent += 1


def alive() -> bool:
    return any(thread.name == "inbox-heartbeat" for thread in threading.enumerate())


def test_heartbeats_are_sent_while_standing_in() -> None:
    """As long as the block lasts."""
    link = Link()
    heartbeat = Heartbeat(link)
    heartbeat.start()

    with heartbeat.standing_in():
        until(lambda: link.sent >= 3)
    heartbeat.stop()

    assert not alive()


def test_none_is_sent_while_the_consuming_thread_is_at_it() -> None:
    """Outside the block the connection belongs to the thread that consumes."""
    link = Link()
    heartbeat = Heartbeat(link)
    heartbeat.start()
    with heartbeat.standing_in():
        until(lambda: link.sent)
    sent = link.sent

    time.sleep(20 * link.heartbeat)  # room for twenty of them
    heartbeat.stop()

    assert link.sent == sent


def test_the_block_ends_after_the_heartbeat_that_is_being_written() -> None:
    """Two threads never write at once."""
    link = Link()
    link.gate.clear()
    heartbeat = Heartbeat(link)
    heartbeat.start()
    left = threading.Event()

    def stand_in() -> None:
        with heartbeat.standing_in():
            link.sending.wait(10)
        left.set()

    thread = threading.Thread(target=stand_in)
    thread.start()
    assert link.sending.wait(10)
    assert not left.wait(0.1)
    link.gate.set()

    assert left.wait(10)
    thread.join()
    heartbeat.stop()


def test_a_failing_heartbeat_is_left_to_the_consuming_thread() -> None:
    """The thread ends, and nothing is raised where nobody would see it."""
    link = Link()
    link.fail = True
    heartbeat = Heartbeat(link)
    heartbeat.start()

    with heartbeat.standing_in():
        until(lambda: not alive())
    heartbeat.stop()


@pytest.mark.parametrize("interval", [0, None])
def test_without_heartbeats_there_is_no_thread(interval: int | None) -> None:
    """The broker may have turned them off."""
    heartbeat = Heartbeat(SimpleNamespace(heartbeat=interval))
    heartbeat.start()

    with heartbeat.standing_in():
        assert not alive()
    heartbeat.stop()

"""Who handles beside whom in a process: a suspect with nobody, for as long as that is bearable."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from django.utils import timezone

from inbox.models import Receipt
from inbox.receiving import retries
from inbox.receiving.isolation import Isolation
from inbox.receiving.retries import Retries
from tests.inbox.support import Handling, effects, fail, happened, in_thread, make_due, receive
from tests.kit.waiting import until

FOR_EVER = 60.0


@contextmanager
def elsewhere(isolation: Isolation) -> Iterator[None]:
    """Let another thread be at work during the block."""
    begun, over = threading.Event(), threading.Event()

    def work() -> None:
        with isolation.shared():
            begun.set()
            over.wait(FOR_EVER)

    with in_thread(work):
        begun.wait(FOR_EVER)
        try:
            yield
        finally:
            over.set()


def test_several_are_at_work_side_by_side() -> None:
    """Nobody waits where there is no suspect."""
    isolation = Isolation(FOR_EVER, FOR_EVER)
    with elsewhere(isolation), elsewhere(isolation), isolation.shared():
        pass


def test_a_suspect_begins_when_the_others_are_over() -> None:
    """And none of them begins before it is over, itself."""
    isolation = Isolation(FOR_EVER, FOR_EVER)
    told: list[str] = []
    at_work, over = threading.Event(), threading.Event()

    def work() -> None:
        with isolation.shared():
            at_work.set()
            over.wait(FOR_EVER)
            told.append("work")

    def suspect() -> None:
        with isolation.alone() as alone:
            told.append(f"suspect {alone}")
            # Whoever comes now would be told before this, if he did not wait.
            late.start()
            late.join(0.1)
            told.append("suspect over")

    def come_late() -> None:
        with isolation.shared():
            told.append("late")

    late = threading.Thread(target=come_late)
    with in_thread(work):
        at_work.wait(FOR_EVER)
        with in_thread(suspect):
            over.set()
    late.join(FOR_EVER)

    assert told == ["work", "suspect True", "suspect over", "late"]


def test_a_suspect_is_put_off_if_the_others_do_not_end() -> None:
    """It is told, and holds up nobody any more."""
    isolation = Isolation(0.01, FOR_EVER)
    with elsewhere(isolation), isolation.alone() as alone:
        assert not alone
        with elsewhere(isolation):
            pass
    with isolation.alone() as alone:
        assert alone


def test_others_do_not_keep_away_from_a_suspect_for_ever() -> None:
    """It takes its time; but another suspect does."""
    isolation = Isolation(0.05, 0.05)
    alone: list[bool] = []

    def another() -> None:
        with isolation.alone() as found:
            alone.append(found)

    with isolation.alone():
        with elsewhere(isolation):
            pass
        with in_thread(another):
            pass
    with in_thread(another):
        pass

    assert alone == [False, True]


def test_a_handler_may_handle_within() -> None:
    """Its thread is inside already, whoever waits meanwhile."""
    isolation = Isolation(FOR_EVER, FOR_EVER)
    with isolation.alone(), isolation.shared(), isolation.alone() as alone:
        assert alone
    inside = threading.Event()

    def suspect() -> None:
        inside.wait(FOR_EVER)
        with isolation.alone():
            pass

    with in_thread(suspect) as background, isolation.shared():
        inside.set()
        until(lambda: isolation._waiting)
        with isolation.shared(), isolation.alone() as alone:
            assert alone
            assert background.running


def test_a_child_process_begins_with_nobody_at_work() -> None:
    """The threads of its parent are not in it."""
    from inbox.receiving.isolation import isolation  # noqa: PLC0415 - as it is now

    with isolation.alone():
        child = os.fork()
        if not child:
            os._exit(0 if not isolation._alone and not isolation._is_here else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.django_db(transaction=True)
def test_while_a_suspect_is_put_off_the_others_have_their_turn(
    handling: Handling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is noted of it, and it is called when it can be alone."""
    isolation = Isolation(0.01, FOR_EVER)
    monkeypatch.setattr(retries, "isolation", isolation)
    handling(fail)
    suspect, other = happened(1), happened(2)
    receive(suspect, other)
    handling.forget()
    handling()
    make_due()
    long_ago = timezone.now() - timedelta(seconds=5)
    Receipt.objects.filter(message_id=suspect.id).update(begun=2, begun_at=long_ago)
    now = 0.0
    turns = Retries("default", "g", clock=lambda: now)

    with elsewhere(isolation):
        assert turns.turn().handled == 1
        assert turns.put_off
        assert turns.turn().settled == 0
    assert effects() == [2]
    assert Receipt.objects.get(message_id=suspect.id).begun == 2

    now = retries.CROWDED_SECONDS
    assert turns.turn().handled == 1
    assert effects() == [2, 1]
    assert not turns.put_off

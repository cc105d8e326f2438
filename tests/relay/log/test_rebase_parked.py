"""What is parked when a log moves to another cluster."""

import json
import re
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import connection
from django.db.models.functions import Now

from outbox.models import Message
from relay.brokers.base import Status
from relay.log.rebase import rebase
from relay.models import Checkpoint, Parked
from relay.parking.people import discard
from relay.sql import rebase as statements
from relay.states import ParkedState
from tests.relay.log.moving import (
    ELSEWHERE,
    LANES,
    MOVES,
    Reading,
    commit,
    explain,
    lane_of_a,
    move_from_lower,
    rebased,
)

pytestmark = [pytest.mark.usefixtures("two_lanes"), pytest.mark.django_db(transaction=True)]


def look_native() -> None:
    """Let nothing but the identifier tell the clusters apart: all ids may be ours, all is new."""
    Checkpoint.objects.update(system_identifier=ELSEWHERE)


PARKED_MOVES = [*MOVES, pytest.param(look_native, id="native")]


def refuse(reading: Reading, *numbers: int, key: str) -> None:
    """Commit messages of a key, of which the broker refuses the first."""
    commit(*numbers, key=key)
    first = Message.objects.filter(key=key).earliest("pk")
    reading.broker.refuse[str(first.message_id)] = Status.UNROUTABLE
    reading.all()
    # Not due by itself, however long the test takes.
    heads = Parked.objects.filter(relay=reading.log.relay, state=ParkedState.PARKED)
    heads.update(next_attempt_at=Now() + timedelta(days=1))


def try_again(reading: Reading, *keys: str) -> list[int]:
    """Let the broker take everything, and the parked messages of some keys be due."""
    reading.broker.refuse.clear()
    due = Parked.objects.filter(relay=reading.log.relay, state=ParkedState.PARKED, key__in=keys)
    due.update(next_attempt_at=Now())
    return reading.all()


def parked_in_every_state(reading: Reading) -> None:
    """Park 1, which is published in the end, 2, which 3 waits for, 4 is dead, 5 discarded."""
    refuse(reading, 1, key="a")
    assert try_again(reading, "a") == [1]
    refuse(reading, 2, 3, key="b")
    refuse(reading, 4, key="c")
    refuse(reading, 5, key="d")
    Parked.objects.filter(key="c").update(state=ParkedState.DEAD, next_attempt_at=None)
    discard(Parked.objects.filter(key="d"), by="test")
    for message in Message.objects.filter(key__in="abcd"):
        reading.broker.refuse[str(message.message_id)] = Status.UNROUTABLE
    states = Parked.objects.order_by("pk").values_list("state", flat=True)
    assert list(states) == ["published", "parked", "waiting", "dead", "discarded"]


@pytest.mark.parametrize("move", PARKED_MOVES)
def test_what_is_parked_is_not_pending(move: Callable[[], None]) -> None:
    """It left the flow before the move, and stays out of it, in whatever state it is."""
    reading = Reading()
    parked_in_every_state(reading)
    rows = list(Parked.objects.order_by("pk").values())
    commit(6, key="x")
    move()

    assert reading.all() == [6]
    assert list(Parked.objects.order_by("pk").values()) == rows
    assert reading.log.lanes_with_work(LANES) == []
    assert {each.relay for each in rebased()} == {"test"}


@pytest.mark.parametrize("move", PARKED_MOVES)
def test_a_parked_key_goes_on_in_order(move: Callable[[], None]) -> None:
    """What was pending of the key follows those that were parked, and so does what comes."""
    reading = Reading()
    refuse(reading, 1, 2, key="a")
    commit(3, key="a")
    move()
    commit(4, key="a")
    assert reading.all() == []

    assert try_again(reading, "a") == [1, 2, 3, 4]
    commit(5, key="a")
    assert reading.all() == [5]


@pytest.mark.parametrize("move", PARKED_MOVES)
def test_what_one_relay_has_parked_is_pending_for_another(move: Callable[[], None]) -> None:
    """Parked rows are their relay's own: nobody else misses a message by them."""
    reading, behind = Reading(), Reading("behind")
    commit(0, key="z")
    assert behind.all() == reading.all() == [0]
    parked_in_every_state(reading)
    move()

    assert set(reading.all()) <= {0}
    assert sorted(set(behind.all()) - {0}) == [1, 2, 3, 4, 5]


def test_what_is_parked_during_a_rebase(monkeypatch: pytest.MonkeyPatch) -> None:
    """A relay of this cluster goes on until the log is locked; what it parks stays parked."""
    old, new = Reading("old"), Reading("new")
    commit(1)
    old.all()
    move_from_lower()
    new.all()
    commit(2, 3, key="a")
    [first, _] = Message.objects.filter(key="a").order_by("-pk")[:2][::-1]
    new.broker.refuse[str(first.message_id)] = Status.UNROUTABLE

    def park(name: str) -> None:
        if name == "rebase.burned" and not Parked.objects.exists():
            new.page(lane_of_a())

    monkeypatch.setattr("relay.log.rebase.hit", park)

    assert rebase("default") is False
    assert Parked.objects.filter(relay="new").count() == 2
    assert rebased() == []
    assert rebase("default") is True
    assert new.all() == []
    assert old.all() == [2, 3]
    assert try_again(new, "a") == [2, 3]


def test_parked_rows_are_found_by_index() -> None:
    """However much was ever parked, it is looked up for what may be pending alone."""
    reading = Reading()
    commit(1, 2)
    reading.all()
    with connection.cursor() as cursor:
        cursor.execute("""
            INSERT INTO django_relay_parked (relay, lane, position, message_id, type, topic, state,
                                             reason, error, attempts, parked_at, settled_by)
            SELECT 'test', 0, n, gen_random_uuid(), 't', 't', 'published', 'unroutable', '', 1,
                   now(), '' FROM generate_series(100000, 120000) AS n""")
        cursor.execute("ANALYZE django_relay_parked")
    look_native()
    chains = Checkpoint.objects.all()
    plan = json.dumps(
        explain(
            statements.GROUPS,
            {
                "chains": [each.pk for each in chains],
                "chain_lanes": [each.lane for each in chains],
                "moved": [True] * len(chains),
                "started": [False] * len(chains),
            },
        )
    )

    assert "relay_parked_once" in plan
    assert not re.search(r'"Seq Scan"[^}]*"django_relay_parked"', plan)

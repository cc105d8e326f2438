"""What services tell each other is bounded, and checked before anything is made of it."""

import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outbox.extensions.flow import Mood
from outbox.flow import wire
from outbox.flow.halves import Half
from tests.outbox.flow.test_conversation import sent, stage

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)


def told(**changes: Any) -> bytes:
    answer = {"version": 1, "service": "/far", "correlation_id": "flow", "messages": []}
    return json.dumps(answer | {"stages": []} | changes).encode()


def message(**changes: Any) -> dict[str, Any]:
    return {"id": "a", "source": "/far", "type": "x.done"} | changes


def state(**changes: Any) -> dict[str, Any]:
    about = {"message_id": "a", "source": "/far", "type": "x.done", "by": "h", "group": "g"}
    return about | {"state": "dead", "mood": "failed"} | changes


def test_a_half_comes_through() -> None:
    """But for what is of no use elsewhere: places in the log and keys of rows."""
    placed = sent("a", "b", 7, key="42")
    half = Half(correlation_id="flow", sent=[placed], stages=[stage(placed, Mood.FAILED)])
    answer = wire.decode(wire.encode(half, "/shop"))
    found = answer.half("shop")

    assert (answer.service, found.correlation_id, found.cut_at) == ("/shop", "flow", None)
    [there] = found.sent
    assert (there.id, there.causation_id, there.key) == ("a", "b", "42")
    assert (there.position, there.peer) == (None, "shop")
    [said] = found.stages
    assert (said.by, said.group, said.mood) == ("billing.invoice", "billing", Mood.FAILED)
    assert (said.row, said.peer) == (None, "shop")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"[" * 100_000,
        told(version=2),
        told(service=""),
        told(messages={}),
        told(messages=[1]),
        told(messages=[message(id="")]),
        told(messages=[message(id="x" * 256)]),
        told(messages=[message(key=7)]),
        told(messages=[message(time="yesterday")]),
        told(messages=[message(time="2026-11-30T12:00:00")]),
        told(messages=[message(time="9999-12-31T23:59:59Z")]),
        told(messages=[message(time="0001-01-01T00:00:00Z")]),
        told(stages=[state(mood="glad")]),
        told(stages=[state(attempts=-1)]),
        told(stages=[state(attempts=10**30)]),
        told(stages=[state(error="x" * 301)]),
        told(stages=[state(at="0001-01-01T00:00:00+14:00")]),
        told(messages=[message()] * (wire.MESSAGES + 1)),
    ],
    ids=lambda data: data[:60].decode(errors="replace"),
)
def test_a_lie_is_refused_whole(data: bytes) -> None:
    """With a short reason, and no other error than that."""
    with pytest.raises(wire.Unreadable) as caught:
        wire.decode(data)

    assert 0 < len(str(caught.value)) <= 200


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_whatever_comes(data: bytes) -> None:
    """It is an answer, or it is refused."""
    for each in (data, told(messages=[message(id=data.decode(errors="replace") or "x")])):
        with suppress(wire.Unreadable):
            wire.decode(each)


def test_more_than_is_asked_for_is_left_alone() -> None:
    """A later version of the other service may say more."""
    found = wire.decode(told(messages=[message(colour="red")], more=1))

    assert len(found.messages) == 1


def test_an_answer_has_a_bound() -> None:
    """What failed is in it before what is well; and it says that there is more."""
    many = [sent(f"m{n:05}", "a" * 255, n, key="é" * 255) for n in range(wire.MESSAGES + 10)]
    stages = [stage(each, Mood.DONE) for each in many] + [stage(many[-1], Mood.FAILED)]
    data = wire.encode(Half(correlation_id="flow", sent=many, stages=stages), "/shop")
    found = wire.decode(data)

    assert len(data) <= wire.MAX_BYTES
    assert found.cut
    assert found.stages[0].mood is Mood.FAILED
    assert 1000 < len(found.messages) <= wire.MESSAGES


def test_an_error_is_cut() -> None:
    """It is a line of a page, not a traceback."""
    placed = sent("a", position=1)
    long = wire.Stage(
        message_id="a",
        source="/shop",
        type="t",
        by="h",
        group="",
        state="dead",
        mood=Mood.FAILED,
        error="x" * 5000,
        at=NOW,
    )
    [said] = wire.decode(
        wire.encode(Half(correlation_id="f", sent=[placed], stages=[long]), "/s")
    ).stages

    assert said.error == "x" * wire.ERROR
    assert said.at == NOW

"""Buckets, digests and comparing: pure, and the same on both sides."""

import hashlib
import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from uuid import UUID

import hypothesis.strategies as st
import pytest
from hypothesis import given

from outbox.exceptions import UndecodableMessage
from outbox.message.ids import time_of as moment_of
from outbox.message.ids import uuid7_text
from outbox.statements import wire
from outbox.statements.buckets import (
    DAY,
    HOUR,
    MINUTE,
    MOMENT,
    SECOND,
    bound,
    ceiling,
    finer,
    floor,
    is_bucket,
    joined,
    milliseconds,
    moment,
    spans,
    time_of,
)
from outbox.statements.comparing import SETTLED, compare, is_old, next_state
from outbox.statements.topics import Topic, pieces, regex_of, remember, selects
from outbox.statements.totals import Total, differing, fold, raised, total_up
from outbox.statements.wire import Answer, Listing, Statement
from outbox.states import BreakKind, BreakState

TIMES = st.integers(0, 2**47)
WIDTHS = st.sampled_from([SECOND, MINUTE, HOUR, DAY])


def v7(time: int, rest: int = 0) -> UUID:
    """A UUIDv7 of a time."""
    return UUID(int=(time << 80) | (7 << 76) | (2 << 62) | rest)


IDS = st.builds(v7, st.integers(1_700_000_000_000, 1_700_000_300_000), st.integers(0, 2**32 - 1))
MESSAGES = st.dictionaries(IDS, st.sampled_from(["a", "b.c"])).map(lambda d: sorted(d.items()))


@given(TIMES, WIDTHS)
def test_a_time_is_in_its_bucket(time: int, width: int) -> None:
    """And a bucket is a range of ids, of which the bounds are those of its time."""
    start = floor(time, width)
    assert start <= time < start + width
    assert ceiling(start, width) == start
    assert bound(start) <= v7(time) < bound(start + width)


def test_both_sides_read_the_time_of_an_id_alike() -> None:
    """What the library makes says when, to the millisecond."""
    message_id = uuid7_text()
    assert moment(time_of(UUID(message_id))) == moment_of(message_id)
    then = datetime(2026, 11, 30, 12, 0, 0, 5000, UTC)
    assert moment(milliseconds(then)) == then


def test_what_smaller_parts_there_are() -> None:
    """A day is made of hours, these of buckets, these of seconds, these of moments, of messages."""
    assert [finer(each, MINUTE) for each in (DAY, HOUR, MINUTE, SECOND, MOMENT)] == [
        HOUR,
        MINUTE,
        SECOND,
        MOMENT,
        None,
    ]
    assert finer(HOUR, SECOND) == SECOND
    assert finer(SECOND, SECOND) == MOMENT
    assert is_bucket(MINUTE)
    assert is_bucket(SECOND)
    assert not any(map(is_bucket, (0, 500, 7 * SECOND, 2 * HOUR)))


@given(st.lists(st.integers(0, 50)))
def test_buckets_side_by_side_are_one_range(starts: list[int]) -> None:
    """The ranges hold all buckets and no others, and never touch."""
    ranges = list(joined(starts, 1))
    assert {each for first, last in ranges for each in range(first, last)} == set(starts)
    assert all(last < first for (_, last), (first, _) in pairwise(ranges))


@given(st.integers(0, 10 * DAY), st.integers(0, 10 * DAY))
def test_a_long_range_goes_in_days_and_hours(one: int, other: int) -> None:
    """Its parts follow each other without a gap, each of whole widths."""
    since, until = (floor(each, MINUTE) for each in sorted((one, other)))
    parts = list(spans(since, until, MINUTE))
    reached = since
    for first, last, width in parts:
        assert first == reached < last
        assert first % width == last % width == 0
        reached = last
    assert reached == until


@given(MESSAGES)
def test_a_digest_is_that_of_the_ids_in_order(messages: list[tuple[UUID, str]]) -> None:
    """So anybody can check it, and the server of the database can make it."""
    found = total_up(messages, MINUTE)
    assert sum(each.count for each in found) == len(messages)
    for each in found:
        ids = [i for i, kind in messages if floor(time_of(i), MINUTE) == each.start]
        mine = [i.bytes for i, kind in messages if kind == each.type and i in ids]
        assert each.digest == hashlib.sha256(b"".join(mine)).hexdigest()


@given(MESSAGES, st.data())
def test_a_lost_message_differs_at_every_width(
    messages: list[tuple[UUID, str]], data: st.DataObject
) -> None:
    """In seconds, minutes, hours and days; and nothing else differs."""
    if not messages:
        return
    lost = data.draw(st.sampled_from(messages))
    rest = [each for each in messages if each != lost]
    for width in (SECOND, MINUTE, HOUR, DAY):
        ours = raised(total_up(messages, min(width, MINUTE)), width)
        theirs = raised(total_up(rest, min(width, MINUTE)), width)
        assert list(differing(ours, theirs)) == [(floor(time_of(lost[0]), width), lost[1])]
        assert list(differing(ours, ours)) == []


def test_counts_that_cancel_out_are_no_agreement() -> None:
    """One lost and one too many are as many messages, and another digest."""
    ours = total_up([(v7(1000, 1), "a")], SECOND)
    theirs = total_up([(v7(1000, 2), "a")], SECOND)
    assert ours[0].count == theirs[0].count
    assert list(differing(ours, theirs)) == [(1000, "a")]


def test_an_hour_is_the_digest_of_its_buckets() -> None:
    """With their times, so that a message in another bucket is another hour."""
    one, two = Total(0, "a", 1, "11" * 32), Total(MINUTE, "a", 2, "22" * 32)
    [hour] = fold([two, one], HOUR)
    whole = (0).to_bytes(8, "big") + b"\x11" * 32 + MINUTE.to_bytes(8, "big") + b"\x22" * 32
    assert hour == Total(0, "a", 3, hashlib.sha256(whole).hexdigest())
    assert raised([one, two], MINUTE) == [one, two]


STATES = st.sampled_from([SETTLED, "dead", "retrying"])


@given(
    st.lists(st.sampled_from("abcdef"), unique=True),
    st.dictionaries(st.sampled_from("abcdef"), STATES),
)
def test_each_message_is_named_for_what_it_is(ours: list[str], theirs: dict[str, str]) -> None:
    """Missing there, unknown here, unsettled, or nothing at all."""
    found = {(each.kind, each.message_id): each.there for each in compare(sorted(ours), theirs)}
    assert found == {
        **{(BreakKind.MISSING, each): "" for each in set(ours) - theirs.keys()},
        **{(BreakKind.UNKNOWN, each): theirs[each] for each in theirs.keys() - set(ours)},
        **{
            (BreakKind.UNSETTLED, each): theirs[each]
            for each in set(ours) & theirs.keys()
            if theirs[each] != SETTLED
        },
    }


def test_what_is_under_way_is_no_break() -> None:
    """A break is open once it has differed for long, and has left this side."""
    transit, opened = BreakState.IN_TRANSIT, BreakState.OPEN

    def after(state: BreakState | None, **about: bool) -> BreakState | None:
        given = {"there": True, "old": True, "published": True}
        return next_state(state, **{**given, **about})

    assert after(None) is transit
    assert after(transit, old=False) is transit
    assert after(transit, published=False) is transit
    assert after(transit) is opened
    assert after(transit, there=False) is None
    assert after(opened, there=False) is BreakState.REPAIRED
    assert after(BreakState.REPAIRED, there=False) is BreakState.REPAIRED
    assert after(BreakState.REPAIRED) is transit
    assert after(BreakState.ACCEPTED) is after(BreakState.ACCEPTED, there=False)
    now = datetime(2026, 12, 1, tzinfo=UTC)
    assert is_old(now, now + timedelta(seconds=2), timedelta(seconds=2))
    assert not is_old(now, now + timedelta(seconds=1), timedelta(seconds=2))


def test_a_binding_that_was_lost_keeps_its_beginning() -> None:
    """What was published meanwhile is missing; after one that was undone it is not."""
    known = {"a": Topic("a", 10)}
    assert remember(known, [Topic("a", 50)], 60) == {"a": Topic("a", 10)}
    assert remember(known, [Topic("a", 50, 55)], 60) == {"a": Topic("a", 10, 55)}
    assert remember(known, [], 60) == {"a": Topic("a", 10, 60)}
    ended = {"a": Topic("a", 10, 55)}
    assert remember(ended, [Topic("a", 70)], 80) == {"a": Topic("a", 70)}
    assert remember(ended, [], 80) == ended


def test_only_what_was_bound_during_a_whole_bucket_counts() -> None:
    """A bucket in which a binding begins or ends is left out for its topic."""
    topics = [Topic("a", 0), Topic("b", 15, 38)]
    assert list(pieces(topics, 0, 50, 10)) == [
        (0, 20, ("a",)),
        (20, 30, ("a", "b")),
        (30, 50, ("a",)),
    ]
    assert list(pieces([Topic("b", 15, 38)], 0, 50, 10)) == [(20, 30, ("b",))]
    assert list(pieces([], 0, 50, 10)) == []


def test_patterns_are_one_regular_expression() -> None:
    """Which selects what one of them does, and nothing if there are none."""
    found = re.compile(regex_of(["a.*", "b"]))
    assert [bool(found.search(each)) for each in ("a.x", "b", "a", "b.x", "ab")] == [
        selects(["a.*", "b"], each) for each in ("a.x", "b", "a", "b.x", "ab")
    ]
    assert not re.search(regex_of([]), "a")


def statement(**about: object) -> Statement:
    given = {
        "group": "billing",
        "address": "outbox.replies.shop",
        "since": 0,
        "until": MINUTE,
        "width": MINUTE,
        "bucket": MINUTE,
        "patterns": ["shop.#"],
        "totals": [Total(0, "shop.order.placed", 1, "00" * 32)],
    }
    return Statement(**{**given, **about})  # type: ignore[arg-type]


def test_a_statement_and_an_answer_come_back_as_they_were() -> None:
    """As bytes of JSON."""
    answer = Answer(
        group="billing",
        to="x",
        until=5,
        differing=[(0, "a")],
        listings=[Listing(type="a", since=0, until=5, ids={"i": "dead"})],
        twice={"i": "a"},
        topics=[Topic("a", 0), Topic("b", 1, 2)],
        handles=["#"],
    )
    for each in (statement(), answer):
        assert wire.decode(wire.encode(each)) == each


@pytest.mark.parametrize(
    "about",
    [
        {"since": -1},
        {"until": -MINUTE},
        {"until": 1},
        {"width": 7000},
        {"bucket": 7000},
        {"address": "shop"},
        {"patterns": ["**"]},
        {"totals": [Total(1, "a", 1, "")]},
    ],
)
def test_a_statement_that_cannot_be_meant_is_refused(about: dict[str, object]) -> None:
    """Before anything is asked of the database."""
    with pytest.raises(UndecodableMessage, match="no statement"):
        wire.decode(wire.encode(statement(**about)))
    with pytest.raises(UndecodableMessage, match="no statement"):
        wire.decode(b"[]")

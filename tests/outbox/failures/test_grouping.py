"""Failures that are alike stand together, also where not all tracebacks were read."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from outbox.extensions.failures import Failure, Frame
from outbox.failures.grouping import Group, fingerprint, group, to_read
from outbox.failures.texts import normalised

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)
HERE = Frame(file="billing/handlers.py", function="invoice", code="raise ValueError", line=3)
THERE = Frame(file="billing/handlers.py", function="remind", code="raise ValueError", line=9)


def failure(number: int, text: str = "no luck", **values: Any) -> Failure:
    moment = NOON + timedelta(seconds=number)
    defaults = {"by": "billing", "error_class": "ValueError", "state": "dead"}
    return Failure(
        **{**defaults, "number": number, "text": text, "began": moment, "failed": moment, **values}
    )


def messages(failures: list[Failure]) -> dict[int, str]:
    return {each.number: normalised(each.text) for each in failures}


def grouped(failures: list[Failure], frames: dict[int, Frame | None] | None = None) -> list[Group]:
    return group("receipts", failures, messages(failures), frames or {})


def numbers(groups: list[Group]) -> list[list[int]]:
    return [[each.number for each in found.failures] for found in groups]


def test_handler_class_and_text_make_a_group() -> None:
    """The newest group first, and the newest failure in it."""
    found = grouped(
        [
            failure(1, "order 12"),
            failure(2, "order 13"),
            failure(3, "no order"),
            failure(4, "order 14", by="shipping"),
            failure(5, "order 15", error_class="KeyError"),
            failure(6, "order 16", state="retrying"),
        ]
    )

    assert numbers(found) == [[6, 2, 1], [5], [4], [3]]
    first = found[0]
    assert (first.message, first.count) == ("order …", 3)
    assert first.states == {"dead": 2, "retrying": 1}
    assert (first.first, first.last) == (
        NOON + timedelta(seconds=1),
        NOON + timedelta(seconds=6),
    )


def test_a_place_in_the_code_counts_more_than_the_text() -> None:
    """Where it is known, whatever the text says."""
    found = grouped(
        [failure(n, text, traced=True) for n, text in enumerate(["a", "b", "c", "d"])],
        {0: HERE, 1: THERE, 2: HERE, 3: None},
    )

    assert numbers(found) == [[3], [2, 0], [1]]
    assert found[1].frame == HERE
    assert not any(each.estimated for each in found)


def test_what_was_not_read_is_taken_to_be_like_its_neighbour() -> None:
    """Of its text, or else of its class; it is an estimate where those have several places."""
    failures = [failure(n, "alike", traced=True) for n in range(10)]
    failures += [failure(10, "another", traced=True), failure(11, "none", by="new", traced=True)]
    found = grouped(failures, {0: HERE, 9: THERE})

    assert numbers(found) == [[11], [10, 9, 8, 7, 6, 5], [4, 3, 2, 1, 0]]
    assert [each.estimated for each in found] == [True, True, True]
    [same] = grouped(failures[:10], {0: HERE, 9: HERE})
    assert (same.count, same.estimated) == (10, False)


def test_what_has_no_traceback_needs_none() -> None:
    """Its text is all there is."""
    [one, other] = grouped([failure(1, traced=True), failure(2)], {1: HERE})

    assert (one.frame, one.estimated) == (None, False)
    assert other.frame == HERE


def test_each_handler_and_text_has_its_turn() -> None:
    """One that fails ten thousand times takes no other's place."""
    failures = [failure(n, "often", traced=True) for n in range(10_000)]
    failures += [failure(20_000 + n, f"text {'x' * n}", traced=True) for n in range(5)]
    failures += [failure(30_000, by="seldom", traced=True), failure(40_000)]

    found = to_read(failures, messages(failures), 40)

    assert len(found) == 40
    assert {30_000, *range(20_000, 20_005)} <= found
    often = sorted(number for number in found if number < 10_000)
    assert (often[0] < 2_000, often[-1]) == (True, 9_999)
    assert max(b - a for a, b in pairwise(often)) < 1_000
    assert 40_000 not in found


@given(st.lists(st.integers(0, 200), unique=True), st.integers(1, 300))
def test_as_many_are_read_as_may_be(chosen: list[int], most: int) -> None:
    """Each once, and all if there is room."""
    failures = [failure(n, "alike" if n % 2 else "other", traced=True) for n in chosen]
    found = to_read(failures, messages(failures), most)

    assert found <= set(chosen)
    assert len(found) == min(most, len(chosen))


def test_a_fingerprint_tells_sources_apart() -> None:
    """And is the same in every process."""
    one = failure(1, "order 12")

    assert fingerprint("receipts", one) == fingerprint("receipts", failure(2, "order 13"))
    assert fingerprint("receipts", one) != fingerprint("letters", one)
    assert fingerprint("receipts", one) == "f6f31e1b899f05c07963e5d33bb323da"

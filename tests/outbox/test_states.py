"""What groups tell, folded into a row: the same in whatever order it comes, and however often."""

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outbox.message.acknowledgements import Told
from outbox.states import REPLACES, Acknowledged

OVER = [Told.DEAD, Told.SKIPPED, Told.HANDLED]
"""What ends the waiting, from the worst to the best."""

lists = st.lists(st.sampled_from(list(Told)), min_size=1, max_size=8)


def fold(
    told: Sequence[Told], replaces: Mapping[str, tuple[Acknowledged, ...]] = REPLACES
) -> Acknowledged:
    """Return the state of a row that was awaited when all that was told."""
    state = Acknowledged.AWAITED
    for what in told:
        if state in replaces[what]:
            state = Acknowledged.AWAITED if what is Told.KEPT else Acknowledged(what.value)
    return state


def best(told: Sequence[Told]) -> Acknowledged:
    ends = [what for what in told if what in OVER]
    return Acknowledged(max(ends, key=OVER.index).value) if ends else Acknowledged.AWAITED


@given(lists)
def test_the_best_that_was_told_stands(told: Sequence[Told]) -> None:
    assert fold(told) == best(told)


@given(st.data())
def test_neither_order_nor_copies_matter(data: st.DataObject) -> None:
    told = data.draw(lists)
    again = data.draw(st.permutations(told + data.draw(st.lists(st.sampled_from(told)))))
    assert fold(told) == fold(again)


@pytest.mark.parametrize(
    ("what", "wrong"),
    [
        (Told.DEAD, Acknowledged.HANDLED),
        (Told.SKIPPED, Acknowledged.HANDLED),
        (Told.KEPT, Acknowledged.DEAD),
    ],
)
def test_a_table_in_which_something_gets_worse_is_caught(what: Told, wrong: Acknowledged) -> None:
    """By the same comparison, for what was told in one order or the other."""
    mutant = {**REPLACES, what: (*REPLACES[what], wrong)}
    better = Told(wrong.value)
    assert fold([better, what], mutant) != best([better, what])
    assert fold([better, what]) == best([better, what])


def test_what_nobody_waits_for_is_not_awaited_again() -> None:
    """That the group has it does not undo what a person has given up."""
    assert Acknowledged.GIVEN_UP not in REPLACES[Told.KEPT]
    assert Acknowledged.MISSING in REPLACES[Told.KEPT]

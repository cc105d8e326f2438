"""What differs between two texts."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outbox.admin_support.diff import AROUND, SHOWN, Line, diff, show_diff

pytestmark = pytest.mark.sqlite

lines = st.lists(st.sampled_from(["a", "b", "c"]), max_size=12)


@given(lines, lines)
def test_a_difference_has_all_that_changes(before: list[str], after: list[str]) -> None:
    """What goes out is in the old text, what comes is in the new one, each as often as it must."""
    found = list(diff(before, after))
    gone = [each.text for each in found if each.sign == "-"]
    come = [each.text for each in found if each.sign == "+"]

    assert sorted([*before, *come]) == sorted([*after, *gone])
    assert (before == after) is not bool(gone or come)


def test_what_is_the_same_is_cut() -> None:
    """A few lines around a change are enough."""
    same = [str(n) for n in range(20)]
    found = list(diff([*same, "old", *same], [*same, "new", *same]))

    assert found == [
        Line("…", ""),
        *(Line(" ", each) for each in same[-AROUND:]),
        Line("-", "old"),
        Line("+", "new"),
        *(Line(" ", each) for each in same[:AROUND]),
        Line("…", ""),
    ]


def test_json_is_compared_as_it_is_indented() -> None:
    """One line of it would be one difference."""
    text = str(show_diff('{"a": 1, "b": "<x>"}', '{"a": 1, "b": 2}'))

    assert text.count("<del>") == text.count("<ins>") == 1
    assert "&lt;x&gt;" in text
    assert "&quot;a&quot;: 1" in text


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("x", "x", "no change"),
        ('{"a":1}', '{"a": 1}', "no change but in blanks, or in how values are written"),
        ('{"a": "\\ud800"}', '{"a": 1}', "\\ud800"),
        ("[" * 5_000, "x", "<ins>"),
        ("x" * 10_000, "y", "…"),
    ],
)
def test_odd_texts(before: str, after: str, said: str) -> None:
    """Each is told."""
    assert said in str(show_diff(before, after))


def test_long_texts_take_no_time_and_no_room() -> None:
    """The page stays a page."""
    before, after = ("\n".join(str(n * factor % 7) for n in range(200_000)) for factor in (1, 3))
    started = time.monotonic()
    text = str(show_diff(before, after))

    assert time.monotonic() - started < 10
    assert text.count("<del>") == SHOWN - 1
    assert "lines more" in text

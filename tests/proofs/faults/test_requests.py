"""What is said of requests in a history."""

import pytest

from tests.proofs.faults.requests import Standing, flaws

SOUND = Standing("a", 1, 1, 1, 1)


def test_what_is_sound() -> None:
    """Nothing was asked about what was given up."""
    assert flaws([SOUND, Standing("b", 0, 0, 0, 0)], 1, frozenset("b")) == ""


@pytest.mark.parametrize(
    "row",
    [
        Standing("b", 0, 0, 0, 0),  # never asked
        Standing("b", 2, 1, 1, 1),  # asked twice
        Standing("b", 1, 0, 1, 1),  # not settled
        Standing("b", 1, 1, 0, 1),  # settled by something else
        Standing("b", 1, 1, 1, 2),  # answered twice
    ],
)
def test_what_is_not(row: Standing) -> None:
    assert "not all 1: 1 (b " in flaws([SOUND, row], 2)


def test_what_nobody_should_have_asked() -> None:
    assert flaws([SOUND], 2) == "2 requests of 1 changes"

"""Numbers with their nouns."""

import pytest

from outbox.nouns import counted


@pytest.mark.parametrize(
    ("count", "words", "expected"),
    [
        (0, ("message",), "0 messages"),
        (1, ("message",), "1 message"),
        (2, ("message",), "2 messages"),
        (1204, ("message",), "1,204 messages"),
        (1, ("key waits", "keys wait"), "1 key waits"),
        (3, ("key waits", "keys wait"), "3 keys wait"),
    ],
)
def test_the_noun_goes_with_the_number(count: int, words: tuple[str, ...], expected: str) -> None:
    """One is one, and none are many."""
    assert counted(count, *words) == expected

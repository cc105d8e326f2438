"""Which slice of the log a key belongs to."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outbox.message.lanes import lane_of


@given(st.text(st.characters(exclude_categories=["Cs"])), st.integers(1, 1024))
def test_range(key: str, lanes: int):
    """Every key has one lane, in range."""
    assert 0 <= lane_of(key, lanes) < lanes
    assert lane_of(key, lanes) == lane_of(key, lanes)


def test_crc_32():
    """It is CRC-32: this is the check value that every description of the algorithm gives."""
    assert lane_of("123456789", 2**32) == 0xCBF43926


@pytest.mark.parametrize(
    ("key", "lane"), [("42", 0), ("order/1", 1), ("ä", 3), ("", 0), ("customer-7", 0)]
)
def test_fixed(key: str, lane: int):
    """These must never change: a key that moves could overtake itself."""
    assert lane_of(key, 4) == lane


@pytest.mark.parametrize("lanes", [2, 4, 7, 64])
def test_spread(lanes: int):
    """Consecutive numbers, the usual keys, spread evenly."""
    found = Counter(lane_of(str(number), lanes) for number in range(lanes * 1000))

    assert len(found) == lanes
    assert max(found.values()) < 1200

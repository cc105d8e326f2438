"""Backoff: bounds and distribution of the delays."""

import random
import statistics

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from outbox.runtime.backoff import Backoff

SECONDS = st.floats(1e-6, 1e6)


@given(SECONDS, SECONDS, st.integers(0, 10**9))
def test_bounds(base: float, cap: float, attempt: int):
    """No delay is negative, longer than the cap, or longer than its attempt allows."""
    assume(base <= cap)
    backoff = Backoff(base=base, cap=cap)

    assert 0 <= backoff.delay(attempt) <= backoff.ceiling(attempt) <= cap


def test_ceilings():
    """The ceiling doubles from the base to the cap, and stays there."""
    backoff = Backoff(base=0.5, cap=10)

    assert [backoff.ceiling(attempt) for attempt in range(7)] == [0.5, 1, 2, 4, 8, 10, 10]
    assert backoff.ceiling(10**12) == 10


@given(st.integers(0, 20))
def test_full_jitter(attempt: int):
    """Delays are uniform between nothing and the ceiling: processes do not come in step."""
    random.seed(attempt)
    backoff = Backoff(base=0.1, cap=1000)
    sample = [backoff.delay(attempt) / backoff.ceiling(attempt) for _ in range(2000)]

    assert statistics.fmean(sample) == pytest.approx(0.5, abs=0.04)
    assert statistics.pstdev(sample) == pytest.approx(12**-0.5, abs=0.02)
    assert min(sample) < 0.02
    assert max(sample) > 0.98


@pytest.mark.parametrize(("base", "cap"), [(0, 1), (-1, 1), (2, 1), (float("nan"), 1)])
def test_refused(base: float, cap: float):
    """A backoff that could not grow, or not wait, is refused."""
    with pytest.raises(ValueError, match="0 < base <= cap"):
        Backoff(base=base, cap=cap)

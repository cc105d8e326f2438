"""A leak is told from a process that has warmed up."""

import pytest

from tests.proofs.faults.memory import MIB, Sample, trend


def samples(*sizes: float) -> list[Sample]:
    return [Sample(second, int(size * MIB)) for second, size in enumerate(sizes)]


def test_warming_up_is_no_growth():
    """What a process takes in the first part of the time does not count."""
    found = trend(samples(10, 20, *[30] * 8))

    assert found.per_minute == pytest.approx(0)
    assert (found.first, found.last, found.highest) == (30, 30, 30)


def test_a_leak_shows_as_its_slope():
    """A MiB a second is sixty a minute."""
    assert trend(samples(*range(20))).per_minute == pytest.approx(60)


def test_a_peak_is_told():
    """Memory that was given back shows as the highest value only."""
    found = trend(samples(*[30] * 10, 50, *[30] * 10))

    assert found.highest == 50
    assert found.last == 30


def test_too_few_samples_tell_nothing():
    """A process that lived for a moment has no trend."""
    with pytest.raises(ValueError, match="too few"):
        trend(samples(1, 2, 3))

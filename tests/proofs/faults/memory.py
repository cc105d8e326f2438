"""Whether memory stays flat: samples over time, and the slope of a line through them. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import linear_regression

MIB = 2**20
WARM_UP = 0.25
"""The first part of the samples does not count: caches fill."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Seconds since the start, resident bytes."""

    seconds: float
    resident: int


@dataclass(frozen=True, slots=True)
class Trend:
    """Memory after the warm-up: in MiB, and in MiB a minute."""

    first: float
    last: float
    highest: float
    per_minute: float


def trend(samples: Sequence[Sample]) -> Trend:
    """Return the trend of at least four samples; raises ValueError for fewer."""
    if len(samples) < 4:
        raise ValueError(f"{len(samples)} samples are too few to tell a trend")
    counted = samples[int(len(samples) * WARM_UP) :]
    slope = linear_regression(
        [sample.seconds / 60 for sample in counted], [sample.resident / MIB for sample in counted]
    ).slope
    return Trend(
        first=counted[0].resident / MIB,
        last=counted[-1].resident / MIB,
        highest=max(sample.resident for sample in counted) / MIB,
        per_minute=slope,
    )

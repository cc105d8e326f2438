"""What a measurement found, as it is kept in benchmarks/results/*.json."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Literal

import msgspec

RESULTS = Path(__file__).resolve().parent / "results"

Better = Literal["higher", "lower"]


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was measured, once in each round."""

    label: str
    unit: str
    values: list[float]

    @property
    def median(self) -> float:
        return median(self.values)


class Ratio(msgspec.Struct, frozen=True, kw_only=True):
    """Two figures compared, or one with a limit: what the guard and the goals look at.

    A `stable` one hardly depends on the machine, so two runs on different days may be compared.
    """

    label: str
    value: float
    better: Better
    goal: float | None = None
    unit: str = ""
    stable: bool = True

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None without one."""
        if self.goal is None:
            return None
        return self.value >= self.goal if self.better == "higher" else self.value <= self.goal


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """Something over the minutes of a run: points to plot, in one of the charts of the result."""

    chart: str
    label: str
    unit: str
    points: list[tuple[float, float]]


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to one question, and under which circumstances it was found."""

    question: str
    title: str
    date: str
    command: str
    seconds: float
    machine: dict[str, str]
    versions: dict[str, str]
    parameters: dict[str, str | int | float]
    figures: dict[str, Figure]
    ratios: dict[str, Ratio]
    series: dict[str, Series] = {}
    skipped: dict[str, str] = {}
    notes: list[str] = []

    def write(self, directory: Path) -> Path:
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"{self.question}.json"
        path.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n")
        return path


def read(directory: Path) -> dict[str, Result]:
    """Return the results in a directory, by question."""
    return {path.stem: load(path.read_bytes()) for path in sorted(directory.glob("*.json"))}


def load(content: bytes) -> Result:
    return msgspec.json.decode(content, type=Result)


def paired(above: Sequence[float], below: Sequence[float]) -> float:
    """Return the median of the ratios round by round: what slows a whole round down cancels out."""
    return median(a / b for a, b in zip(above, below, strict=True))


def compared(
    above: Figure,
    below: Figure,
    label: str,
    *,
    goal: float | None = None,
    better: Better = "higher",
) -> Ratio:
    """Return the ratio of two figures that took turns."""
    return Ratio(
        label=label, value=paired(above.values, below.values), better=better, goal=goal, unit="x"
    )


def limit(figure: Figure, goal: float) -> Ratio:
    """Return a figure as something that shall be no more than the goal, on any machine."""
    return Ratio(
        label=figure.label,
        value=figure.median,
        better="lower",
        goal=goal,
        unit=figure.unit,
        stable=False,
    )


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the nearest-rank percentile of values that need not be sorted."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def lines(result: Result) -> Iterator[str]:
    """Describe a result for the terminal."""
    for figure in result.figures.values():
        each = "  ".join(number(value) for value in figure.values)
        yield f"  {figure.label:<58} {number(figure.median):>9} {figure.unit:<8} ({each})"
    for ratio in result.ratios.values():
        yield f"  {ratio.label:<58} {number(ratio.value):>9} {ratio.unit:<8} {verdict(ratio)}"
    for label, reason in result.skipped.items():
        yield f"  {label:<58}   SKIPPED: {reason}"


def verdict(ratio: Ratio) -> str:
    if ratio.goal is None:
        return ""
    sign = "≥" if ratio.better == "higher" else "≤"
    return f"goal {sign} {number(ratio.goal)}: {'met' if ratio.met else 'NOT MET'}"


def number(value: float) -> str:
    """Write a number with three significant digits or so."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"

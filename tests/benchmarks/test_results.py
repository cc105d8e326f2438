"""What is made of measurements."""

from pathlib import Path

import pytest

from benchmarks.report import charts, check, page
from benchmarks.results import Better, Figure, Ratio, Result, Series, paired, percentile, read


def ratio(value: float, better: Better = "higher", goal: float | None = None) -> Ratio:
    return Ratio(label="ours : theirs", value=value, better=better, goal=goal, unit="x")


def result(**ratios: Ratio) -> Result:
    return Result(
        question="drain",
        title="How fast?",
        date="2026-01-01",
        command="make bench",
        seconds=1.0,
        machine={"cores": "2"},
        versions={"Python": "3.11"},
        parameters={"rounds": 3},
        figures={
            "relay": Figure(label="the <relay>", unit="msg/s", values=[1.0, 3.0, 2.0]),
            "bare": Figure(label="a loop", unit="msg/s", values=[2.0, 2.0, 2.0]),
        },
        ratios=ratios,
        series={"size": Series(chart="sizes", label="table", unit="MiB", points=[(0, 1), (1, 2)])},
    )


def test_a_ratio_is_that_of_the_rounds():
    """A round in which everything is slow leaves the ratio as it is."""
    assert paired([100, 50, 100], [200, 100, 200]) == 0.5


@pytest.mark.parametrize(("percent", "expected"), [(0, 1), (50, 51), (99, 100), (100, 100)])
def test_percentiles_are_values_that_were_measured(percent: float, expected: float):
    """Nearest rank, whatever the order."""
    assert percentile(range(100, 0, -1), percent) == expected


@pytest.mark.parametrize(
    ("better", "value", "met"),
    [("higher", 0.9, True), ("higher", 0.8, False), ("lower", 0.9, True), ("lower", 1.0, False)],
)
def test_a_goal_is_met_in_one_direction(better: Better, value: float, met: bool):
    """At least the goal if more is better, at most the goal if less is."""
    assert ratio(value, better, goal=0.9).met is met


def test_a_result_survives_its_file(tmp_path: Path):
    """What is written is what is read."""
    written = result(bare=ratio(0.9))
    written.write(tmp_path)

    assert read(tmp_path) == {"drain": written}


@pytest.mark.parametrize(
    ("better", "before", "now", "worse"),
    [
        ("higher", 1.0, 0.95, 0),
        ("higher", 1.0, 0.8, 1),
        ("higher", 1.0, 2.0, 0),
        ("lower", 1.0, 1.2, 1),
        ("lower", 1.0, 0.5, 0),
    ],
)
def test_the_guard_names_what_got_worse(better: Better, before: float, now: float, worse: int):
    """More than a tenth in the wrong direction counts, and nothing else."""
    text, found = check.compare(
        {"drain": result(bare=ratio(before, better))}, {"drain": result(bare=ratio(now, better))}
    )

    assert found == worse
    assert "ours : theirs" in text


def test_the_page_shows_everything(tmp_path: Path):
    """Figures, ratios, missed goals and charts are on the page."""
    result(bare=ratio(0.5, goal=0.9)).write(tmp_path / "results")
    page.write(tmp_path / "results", tmp_path)

    text = (tmp_path / "performance.md").read_text()
    assert "**missed**, 44% below it" in text
    assert "performance/drain-1.svg" in text
    assert "<relay>" not in (tmp_path / "performance" / "drain-1.svg").read_text()


def test_charts_bear_having_nothing_to_show():
    """No figures make an empty chart, not an error."""
    assert charts.bars("nothing", []).startswith("<svg")
    assert charts.lines("nothing", []).startswith("<svg")

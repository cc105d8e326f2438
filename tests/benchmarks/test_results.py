"""What is made of measurements."""

import re
from html import unescape
from pathlib import Path

import pytest

from benchmarks.report import against, charts, check, page
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


def texts(svg: str) -> list[str]:
    return [unescape(text) for text in re.findall(r"<text [^>]*>([^<]*)</text>", svg)]


def figure(label: str, *values: float) -> Figure:
    return Figure(label=label, unit="msg/s", values=list(values))


def test_ticks_are_round():
    """Whatever the figures are: a reader must not wonder about 104, 207 and 311."""
    drawn = charts.bars("How fast?", [figure("ours", 1243.7), figure("theirs", 311.0, 290.0)])

    assert [text for text in texts(drawn) if re.fullmatch(r"[\d,]+", text)] == [
        *("0", "500", "1,000", "1,500")
    ]
    assert "messages a second" in texts(drawn)
    assert "1,244 msg/s" in texts(drawn)


def test_figures_that_are_far_apart_are_on_a_logarithmic_axis():
    """The small ones are to be seen as well, and the axis says so."""
    near = charts.bars("How fast?", [figure("ours", 1000), figure("theirs", 100)])
    far = charts.bars("How fast?", [figure("ours", 20_000), figure("theirs", 100)])

    assert "messages a second" in texts(near)
    assert "messages a second, logarithmic" in texts(far)
    assert {"100", "1,000", "10,000"} <= set(texts(far))


def test_a_chart_is_the_same_each_time():
    """Without new figures nothing changes in the repository."""
    figures = [figure("ours", 3.0), figure("theirs", 2.0)]

    assert charts.bars("How fast?", figures) == charts.bars("How fast?", figures)


def test_what_all_labels_end_with_is_in_the_title():
    """Once, and not in each line."""
    drawn = charts.bars("How fast?", [figure("a: its time", 1), figure("b: its time", 2)])

    assert {"How fast? (its time)", "a", "b"} <= set(texts(drawn))


def test_the_charts_in_the_documentation_are_those_of_the_results(tmp_path: Path):
    """Nobody has to measure to draw them: python -m benchmarks.report.page."""
    page.write(docs=tmp_path)
    docs = page.DOCS

    assert (tmp_path / "performance.md").read_text() == (docs / "performance.md").read_text()
    drawn = {path.name for path in (tmp_path / "performance").iterdir()}
    assert drawn == {path.name for path in (docs / "performance").iterdir()}
    for name in drawn:
        ours, committed = (each / "performance" / name for each in (tmp_path, docs))
        assert texts(ours.read_text()) == texts(committed.read_text())


def test_charts_bear_having_nothing_to_show():
    """No figures make an empty chart, not an error."""
    assert charts.bars("nothing", []).startswith("<svg")
    assert charts.lines("nothing", []).startswith("<svg")


def test_rounds_of_two_commits_are_compared_by_their_medians():
    """One round in which the machine was slow decides nothing."""
    rounds = [{"drain": result(bare=ratio(value))} for value in (0.7, 0.1, 0.8)]
    found = against.combined(rounds)

    assert found["drain"].ratios["bare"].value == 0.7
    assert check.compare(found, found)[1] == 0

"""Write docs/performance.md and its charts from the results: `python -m benchmarks.report.page`."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from benchmarks.questions import questions
from benchmarks.report import charts
from benchmarks.results import RESULTS, Figure, Ratio, Result, Series, number, read

DOCS = RESULTS.parents[1] / "docs"
CHARTS = "performance"

INTRODUCTION = """# Performance

Every figure on this page was measured by `make bench` and written here by it, goals that are missed
included. What is compared was measured in one run: contenders take turns, each round beginning with
another one, and a ratio is the median of the ratios of the rounds. Absolute figures depend on the
machine, which is named below each table, and ratios a little: of one commit the relay made 0.81 of
the bare loop on one machine, and 0.68 to 0.77 on a faster one. So `bench-check` can measure two
commits by turns.

```
make bench-peers              # once: install the other libraries
make bench                    # everything, in about a quarter of an hour
make bench ARGS='drain emit'  # some questions
make bench-growth             # ten minutes of steady load
make bench ARGS='pages --rows 10000000'  # all pages, beside eight weeks of messages: half an hour
make bench-check              # which ratios are 10 % worse than those below?
make bench-check ARGS='--against v1.0 drain'  # and than those of a commit, here and now?
```

In the charts a bar or dot is the median, and the thin line reaches from the worst round to the
best. Grey is what this library is compared with. Where figures are far apart the axis is
logarithmic, and says so.

No server is needed: without `DATABASE_URL` and `BROKER_URL` it starts the embedded PostgreSQL and a
RabbitMQ node of its own, where RabbitMQ is installed or can be. All servers run on the same machine
as what is measured, and share its cores.

A message has 250 bytes of JSON as data, and the headers of the envelope. A relay writes to a
durable topic exchange with a quorum queue behind it: persistent, mandatory, confirmed. Peers write
the same payload to the same queue. What limits each figure, and what was tried:
[where the time goes](decisions/0004-where-the-time-goes.md).
"""


def write(results: Path = RESULTS, docs: Path = DOCS) -> None:
    """Write the page and its charts."""
    found = read(results)
    shown = [found[name] for name in questions() if name in found]
    charts_directory = docs / CHARTS
    charts_directory.mkdir(parents=True, exist_ok=True)
    for stale in charts_directory.glob("*.svg"):
        stale.unlink()
    sections = [section(result, charts_directory) for result in shown]
    goals = [row for result in shown for row in _goal_rows(result)]
    text = "\n".join([INTRODUCTION, "## Goals\n", table(_GOALS, goals), *sections])
    (docs / "performance.md").write_text(text)


_GOALS = ("", "measured", "goal", "")


def _goal_rows(result: Result) -> Iterator[list[str]]:
    for ratio in result.ratios.values():
        if ratio.goal is not None:
            sign = "≥" if ratio.better == "higher" else "≤"
            yield [
                ratio.label,
                _measure(ratio.value, ratio.unit),
                f"{sign} {_measure(ratio.goal, ratio.unit)}",
                "met" if ratio.met else f"**missed**, {_distance(ratio)}",
            ]


def _distance(ratio: Ratio) -> str:
    assert ratio.goal
    off = ratio.value / ratio.goal - 1
    return f"{abs(off):.0%} {'above' if off > 0 else 'below'} it"


def section(result: Result, directory: Path) -> str:
    parts = [f"## {result.title}\n"]
    for name in draw(result, directory):
        parts.append(f"![{result.title}]({CHARTS}/{name})\n")
    if result.figures:
        rows = [
            [
                figure.label,
                _measure(figure.median, figure.unit),
                " · ".join(number(value) for value in figure.values),
            ]
            for figure in result.figures.values()
        ]
        parts.append(table(("", "median", "rounds"), rows))
    if result.ratios:
        parts.append(table(("", "ratio"), [_ratio(each) for each in result.ratios.values()]))
    parts += [f"{note}\n" for note in result.notes]
    parts += [f"**Not measured**: {what}: {why}.\n" for what, why in result.skipped.items()]
    parts.append(circumstances(result))
    return "\n".join(parts)


def _ratio(ratio: Ratio) -> list[str]:
    return [ratio.label, _measure(ratio.value, ratio.unit)]


def _measure(value: float, unit: str) -> str:
    return f"{number(value)} {unit}".strip()


def draw(result: Result, directory: Path) -> Iterator[str]:
    """Draw the charts of a result: bars by unit, lines as the series say; yield their names."""
    units: dict[str, list[Figure]] = {}
    for figure in result.figures.values():
        units.setdefault(figure.unit, []).append(figure)
    for index, figures in enumerate(units.values(), 1):
        if len(figures) > 1:
            name = f"{result.question}-{index}.svg"
            (directory / name).write_text(charts.bars(result.title, figures))
            yield name
    named: dict[str, list[Series]] = {}
    for series in result.series.values():
        named.setdefault(series.chart, []).append(series)
    for title, drawn in named.items():
        name = f"{result.question}-{title.replace(' ', '-')}.svg"
        (directory / name).write_text(charts.lines(title, drawn))
        yield name


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    cells = list(head)
    ruler = [":--", *["--:"] * (len(cells) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (cells, ruler, *rows)) + "\n"


def circumstances(result: Result) -> str:
    machine = ", ".join(f"{name} {value}" for name, value in result.machine.items())
    versions = ", ".join(f"{name} {value}" for name, value in result.versions.items())
    parameters = ", ".join(f"{value} {name}" for name, value in result.parameters.items())
    return (
        f"<sub>{result.date}, `{result.command}`, {result.seconds:.0f} s. {parameters}. {machine}. "
        f"{versions}.</sub>\n"
    )


if __name__ == "__main__":
    write()

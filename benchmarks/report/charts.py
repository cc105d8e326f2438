"""Charts as SVG, drawn by matplotlib: bars or dots for figures, lines for series. Pure."""

import io
from collections.abc import Sequence
from html import escape
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Sheet
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from benchmarks.results import Figure, Series, number

WIDTH = 8.6  # inches, of 72 units of the SVG
ROW, FRAME = 0.36, 0.95
LINES_HEIGHT = 3.6
INK, FAINT, OURS, OTHERS = "#1e293b", "#e2e8f0", "#0f766e", "#94a3b8"
COLOURS = ("#0f766e", "#c2410c", "#4338ca", "#be123c", "#64748b", "#65a30d")

SPREAD = 20
"""The largest figure divided by the smallest from which on an axis is logarithmic."""
LOGARITHMIC = ("ms",)
"""Units of series that are read by their order of magnitude."""

UNITS = {
    "msg/s": "messages a second",
    "µs": "microseconds",
    "µs/msg": "microseconds of a processor for each message",
    "ms": "milliseconds",
}
# What labels begin with that are measured for comparison, and are not this library.
COMPARED = (
    *("bare ", "compiled ", "faststream-outbox", "django-celery-outbox", "by hand"),
    *("plain delay()", "delay() with confirm_publish", "a transaction with no task"),
    *("a transaction with plain delay()", "a transaction with delay() with confirm_publish"),
)

_STYLE: Any = {
    "font.family": ["DejaVu Sans"],  # comes with matplotlib, which measures by it
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.axisbelow": True,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": FAINT,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "benchmarks",  # the same figures make the same file
}

_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


def bars(title: str, figures: Sequence[Figure]) -> str:
    """Draw figures of one unit: the median, and the rounds from the worst to the best.

    They are bars from zero; where one is many times another, dots on a logarithmic axis.
    """
    heading, labels = _headed(title, [figure.label for figure in figures])
    with rc_context(_STYLE):
        sheet = Sheet((WIDTH, FRAME + ROW * len(figures)), layout="constrained")
        axes = sheet.subplots()
        logarithmic = _is_spread([figure.median for figure in figures])
        for row, figure in enumerate(figures):
            colour = OTHERS if figure.label.startswith(COMPARED) else OURS
            _row(axes, row, figure, colour, dots=logarithmic)
        axes.set_yticks(range(len(figures)), labels)
        axes.set_ylim(len(figures) - 0.4, -0.6)
        axes.tick_params(axis="both", length=0)
        axes.grid(axis="x")
        axes.spines[["top", "right", "bottom"]].set_visible(False)
        unit = figures[0].unit if figures else ""
        axes.set_xlabel(UNITS.get(unit, unit) + (", logarithmic" if logarithmic else ""))
        _scale(axes, "x", logarithmic=logarithmic)
        _make_room(axes, figures, logarithmic=logarithmic)
        return _svg(sheet, heading)


def lines(title: str, series: Sequence[Series]) -> str:
    """Draw series over the minutes of a run, all of one unit, from zero or logarithmically."""
    ranked = sorted(series, key=lambda each: -each.points[-1][1] if each.points else 0)
    with rc_context(_STYLE):
        sheet = Sheet((WIDTH, LINES_HEIGHT), layout="constrained")
        axes = sheet.subplots()
        for index, each in enumerate(series):
            x, y = zip(*each.points, strict=True) if each.points else ((), ())
            # Of two, the one beneath is wide, so that it is seen where they are the same.
            width = 4 if len(series) == 2 and index == 0 else 1.6
            axes.plot(x, y, color=COLOURS[index % len(COLOURS)], linewidth=width, label=each.label)
        unit = series[0].unit if series else ""
        logarithmic = unit in LOGARITHMIC
        axes.set_xlabel("minutes")
        axes.set_ylabel(UNITS.get(unit, unit) + (", logarithmic" if logarithmic else ""))
        axes.tick_params(axis="both", length=0)
        axes.grid()
        axes.spines[:].set_visible(False)
        axes.margins(x=0)
        _scale(axes, "x")
        _scale(axes, "y", logarithmic=logarithmic)
        if series:
            order = [series.index(each) for each in ranked]
            handles, labels = axes.get_legend_handles_labels()
            sheet.legend(
                [handles[index] for index in order],
                [labels[index] for index in order],
                loc="outside right center",
                frameon=False,
            )
        return _svg(sheet, title[:1].upper() + title[1:])


def _row(axes: Axes, row: int, figure: Figure, colour: str, *, dots: bool) -> None:
    low, high = min(figure.values), max(figure.values)
    if dots:
        axes.plot([low, high], [row, row], color=colour, linewidth=2, alpha=0.6)
        axes.plot(figure.median, row, "o", color=colour, markersize=8)
    else:
        axes.barh(row, figure.median, height=0.62, color=colour)
        axes.plot([low, high], [row, row], color=INK, linewidth=1.2)
    axes.annotate(
        f"{number(figure.median)} {figure.unit}",
        (high, row),
        (8, 0),
        textcoords="offset points",
        va="center",
    )


def _scale(axes: Axes, which: str, *, logarithmic: bool = False) -> None:
    """Let an axis have round ticks, written out."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    if logarithmic:
        axes.set_xscale("log") if which == "x" else axes.set_yscale("log")
        low, high = axis.get_data_interval()
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
        axis.set_minor_locator(LogLocator(subs=range(1, 10)))
        axis.set_minor_formatter(NullFormatter())
        axis.set_tick_params(which="minor", length=0)
        axes.grid(axis="x" if which == "x" else "y", which="minor", linewidth=0.4)
    else:
        _, high = axis.get_data_interval()
        room = {"x": 1, "y": 1.08}[which] * (high if high > 0 else 1)
        axes.set_xlim(0, room) if which == "x" else axes.set_ylim(0, room)
        axis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))


def _make_room(axes: Axes, figures: Sequence[Figure], *, logarithmic: bool) -> None:
    """Leave space at the right for what is written behind the longest row."""
    values = [value for figure in figures for value in figure.values if value > 0]
    if not values:
        axes.set_xlim(0, 1)
    elif logarithmic:
        low, high = min(values), max(values)
        axes.set_xlim(low / 1.6, high * (high / low) ** 0.35)
    else:
        axes.set_xlim(0, max(values) * 1.3)


def _is_spread(values: Sequence[float]) -> bool:
    positive = [value for value in values if value > 0]
    return len(positive) == len(values) > 0 and max(values) / min(values) >= SPREAD


def _headed(title: str, labels: Sequence[str]) -> tuple[str, list[str]]:
    """Move what all labels end with, behind a colon, to the title."""
    endings = {label.rpartition(": ")[2] for label in labels}
    if len(labels) < 2 or len(endings) > 1 or not all(": " in label for label in labels):
        return title, list(labels)
    return f"{title} ({endings.pop()})", [label.rpartition(": ")[0] for label in labels]


def _svg(sheet: Sheet, title: str) -> str:
    sheet.suptitle(title, x=0.012, ha="left", fontsize=11, fontweight="bold")
    output = io.StringIO()
    sheet.savefig(output, format="svg", facecolor="#ffffff", metadata=_NO_METADATA)
    _, _, drawing = output.getvalue().partition("<svg ")
    drawing = drawing.replace("'DejaVu Sans'", "'DejaVu Sans', Verdana, sans-serif")
    return f'<svg role="img" aria-label="{escape(title)}" {drawing}'

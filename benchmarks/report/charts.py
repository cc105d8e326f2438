"""Charts as SVG, written by hand: bars for figures, lines for series. Pure."""

from collections.abc import Sequence
from html import escape

from benchmarks.results import Figure, Series, number

WIDTH = 820
LABELS = 330
BAR, GAP = 22, 10
COLOURS = ("#0f766e", "#b45309", "#4338ca", "#be123c", "#475569", "#15803d")
INK, FAINT, OTHER = "#0f172a", "#cbd5e1", "#94a3b8"


def bars(title: str, figures: Sequence[Figure], ours: int = 1) -> str:
    """Draw one bar for each figure, all of one unit; the first `ours` stand out."""
    top = max((max(figure.values) for figure in figures), default=1.0) or 1.0
    scale = (WIDTH - LABELS - 90) / top
    parts = []
    for index, figure in enumerate(figures):
        y = 40 + index * (BAR + GAP)
        width = figure.median * scale
        low, high = min(figure.values) * scale, max(figure.values) * scale
        middle = y + BAR / 2
        parts += [
            _text(LABELS - 8, middle + 5, figure.label, anchor="end"),
            f'<rect x="{LABELS}" y="{y}" width="{width:.1f}" height="{BAR}" rx="2" '
            f'fill="{COLOURS[0] if index < ours else OTHER}"/>',
            # From the worst round to the best.
            f'<path d="M{LABELS + low:.1f},{middle} H{LABELS + high:.1f}" '
            f'stroke="{INK}" stroke-width="1.5"/>',
            _text(
                LABELS + max(width, high) + 8, middle + 5, f"{number(figure.median)} {figure.unit}"
            ),
        ]
    return _svg(title, 40 + len(figures) * (BAR + GAP), parts)


def lines(title: str, series: Sequence[Series], height: int = 300) -> str:
    """Draw series over the minutes of a run, all of one unit, from zero."""
    left, right, above, below = 70, WIDTH - 300, 40, height - 45
    points = [point for each in series for point in each.points]
    far = max((x for x, _ in points), default=1.0) or 1.0
    top = max((y for _, y in points), default=1.0) or 1.0

    def place(x: float, y: float) -> str:
        return f"{left + (right - left) * x / far:.1f},{below - (below - above) * y / top:.1f}"

    parts = []
    for step in range(5):
        y = below - (below - above) * step / 4
        parts += [
            f'<path d="M{left},{y:.1f} H{right}" stroke="{FAINT}"/>',
            _text(left - 8, y + 5, number(top * step / 4), anchor="end"),
        ]
        x = left + (right - left) * step / 4
        parts.append(_text(x, below + 20, number(far * step / 4), anchor="middle"))
    parts.append(_text((left + right) / 2, height - 6, "minutes", anchor="middle"))
    for index, each in enumerate(series):
        colour = COLOURS[index % len(COLOURS)]
        path = " L".join(place(x, y) for x, y in each.points)
        y = above + 10 + index * 22
        parts += [
            f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>',
            f'<path d="M{right + 12},{y} h18" stroke="{colour}" stroke-width="3"/>',
            _text(right + 36, y + 5, f"{each.label}, {each.unit}"),
        ]
    return _svg(title, height, parts)


def _svg(title: str, height: float, parts: Sequence[str]) -> str:
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
            'font-family="system-ui, sans-serif" font-size="13" role="img" '
            f'aria-label="{escape(title)}">',
            f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
            _text(12, 22, title, weight="600"),
            *parts,
            "</svg>\n",
        ]
    )


def _text(x: float, y: float, text: str, *, anchor: str = "start", weight: str = "400") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" '
        f'fill="{INK}">{escape(text)}</text>'
    )

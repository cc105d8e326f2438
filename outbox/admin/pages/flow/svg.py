"""Small pieces of SVG, with classes and attributes instead of styles; every text is escaped."""

from collections.abc import Iterable, Sequence
from itertools import pairwise

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

CHARACTER = 5.9
"""Width of a character of the pictures' font, about."""


def picture(
    name: str,
    title: str,
    description: str,
    width: float,
    height: float,
    parts: Iterable[SafeString],
) -> SafeString:
    """Return a drawing that can be scrolled; `name` is a short word for its ids."""
    return format_html(
        '<svg class="outbox-flow-{0}" xmlns="http://www.w3.org/2000/svg" role="group" '
        'viewBox="0 0 {1} {2}" width="{1}" height="{2}" '
        'aria-labelledby="outbox-{0}-title outbox-{0}-desc">'
        '<title id="outbox-{0}-title">{3}</title><desc id="outbox-{0}-desc">{4}</desc>{5}</svg>',
        name,
        _number(width),
        _number(height),
        title,
        description,
        joined(parts),
    )


def joined(parts: Iterable[SafeString]) -> SafeString:
    """Return pieces one behind the other."""
    return format_html_join("", "{}", ((part,) for part in parts))


def group(css: str, title: str, parts: Iterable[SafeString], href: str = "") -> SafeString:
    """Return pieces that are one thing, with a title to hover over; perhaps a link."""
    inner = format_html("<title>{}</title>{}", title, joined(parts))
    if href:
        return format_html('<a class="{}" href="{}">{}</a>', css, href, inner)
    return format_html('<g class="{}">{}</g>', css, inner)


def text(x: float, y: float, content: str, css: str = "", anchor: str = "start") -> SafeString:
    """Return a line of text."""
    return format_html(
        '<text x="{}" y="{}" class="{}" text-anchor="{}">{}</text>',
        _number(x),
        _number(y),
        css,
        anchor,
        content,
    )


def line(x1: float, y1: float, x2: float, y2: float, css: str) -> SafeString:
    """Return a straight line."""
    values = (*map(_number, (x1, y1, x2, y2)), css)
    return format_html('<line x1="{}" y1="{}" x2="{}" y2="{}" class="{}"/>', *values)


def rounded(points: Sequence[tuple[float, float]], radius: float = 6) -> str:
    """Return the path of a way through points, with corners that are a little round."""
    (x, y), *rest = points
    found = [f"M {_number(x)} {_number(y)}"]
    for (x1, y1), (x2, y2) in pairwise(rest):
        back = _towards((x1, y1), (x, y), radius)
        on = _towards((x1, y1), (x2, y2), radius)
        found.append(f"L {back} Q {_number(x1)} {_number(y1)} {on}")
        x, y = x1, y1
    return " ".join([*found, f"L {_number(rest[-1][0])} {_number(rest[-1][1])}"])


def _towards(start: tuple[float, float], end: tuple[float, float], most: float) -> str:
    """Return the point that is so far from one towards another, or half of the way."""
    (x1, y1), (x2, y2) = start, end
    length = abs(x2 - x1) + abs(y2 - y1)
    part = min(most, length / 2) / length if length else 0
    return f"{_number(x1 + (x2 - x1) * part)} {_number(y1 + (y2 - y1) * part)}"


def path(data: str, css: str) -> SafeString:
    """Return what follows a path."""
    return format_html('<path d="{}" class="{}"/>', data, css)


def box(x: float, y: float, width: float, height: float, css: str, round_: float = 4) -> SafeString:
    """Return a rectangle."""
    values = (*map(_number, (x, y, width, height, round_)), css)
    return format_html('<rect x="{}" y="{}" width="{}" height="{}" rx="{}" class="{}"/>', *values)


def ending(content: str, room: float) -> str:
    """Return what there is room for, with the end, which tells most of a dotted name."""
    most = max(2, int(room / CHARACTER))
    return content if len(content) <= most else "…" + content[len(content) - most + 1 :].lstrip(".")


def beginning(content: str, room: float) -> str:
    """Return what there is room for, with the beginning."""
    most = max(2, int(room / CHARACTER))
    return content if len(content) <= most else content[: most - 1] + "…"


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")

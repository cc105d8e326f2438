"""Who sent what to whom, in the order of causes: lifelines are services and groups of handlers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from outbox.admin.pages.flow import svg
from outbox.extensions.flow import Mood
from outbox.flow.outline import Item, Summary
from outbox.nouns import grouped

LIFELINES = 10
ARROWS = 120
"""Arrows that are drawn; more of them nobody reads."""
TIMES = "\N{MULTIPLICATION SIGN}"
_GAP, _MARGIN, _TOP, _STEP = 144, 72, 52, 34
_LOOKS = {Mood.DONE: "well", Mood.OPEN: "open", Mood.FAILED: "bad"}


@dataclass(frozen=True, slots=True)
class Picture:
    """A drawing, and what is missing of it."""

    svg: SafeString
    note: str


@dataclass(frozen=True, slots=True)
class _Arrow:
    item: Item
    sender: str
    receiver: str
    mood: Mood
    label: str
    title: str


def draw(items: Sequence[Item]) -> Picture:
    """Return the picture of what is shown of a conversation."""
    arrows = [arrow for item in items for arrow in _arrows(item)]
    names: dict[str, int] = {}
    shown: list[_Arrow] = []
    for arrow in arrows[:ARROWS]:
        wanted = {arrow.sender: 0, arrow.receiver: 0}
        if len(names.keys() | wanted.keys()) <= LIFELINES:
            for name in wanted:
                names.setdefault(name, len(names))
            shown.append(arrow)
    left = len(arrows) - len(shown)
    note = ""
    if left:
        values = {"count": grouped(left), "arrows": ARROWS, "lines": LIFELINES}
        note = _("%(count)s arrows are not drawn: it has at most %(arrows)s, and %(lines)s lines.")
        note %= values
    if not shown:
        return Picture(SafeString(""), note)
    height = _TOP + _STEP * len(shown) + 16
    width = 2 * _MARGIN + _GAP * max(1, len(names) - 1)
    parts = [
        *(_lifeline(name, place, height) for name, place in names.items()),
        *(_drawn(each, row, names) for row, each in enumerate(shown)),
    ]
    title = _("Who sent what to whom")
    description = _(
        "From top to bottom in the order of causes: each arrow is a message and who received it. "
        "The numbers are those of the list, which says the same."
    )
    return Picture(svg.picture("sequence", title, description, width, height, parts), note)


def _arrows(item: Item) -> Iterator[_Arrow]:
    sent = item.node.sent
    if not sent.type:
        return
    count = len(item.fold.nodes)
    label = f"{sent.title} {TIMES} {grouped(count)}" if count > 1 else sent.title
    about = f"{label} {sent.key or ''}".strip()
    received = [each for each in item.summaries() if each.group is not None]
    for each in received:
        title = f"{item.number}. {about}: {each.by}: {each.text}"
        yield _Arrow(item, sent.source, _line_of(each), each.mood, label, title)
    if not received:
        title = _("%(number)s. %(message)s: nobody is known to have received it")
        title %= {"number": item.number, "message": about}
        yield _Arrow(item, sent.source, sent.source, Mood.OPEN, label, title)


def _line_of(summary: Summary) -> str:
    name = summary.group or summary.by
    return f"{summary.peer}: {name}" if summary.peer else name


def _lifeline(name: str, place: int, height: float) -> SafeString:
    x = _MARGIN + _GAP * place
    return svg.group(
        "outbox-flow-lifeline",
        name,
        [
            svg.line(x, 36, x, height - 6, "outbox-flow-life"),
            svg.box(x - _GAP / 2 + 8, 8, _GAP - 16, 28, "outbox-flow-box"),
            svg.text(x, 26, svg.ending(name, _GAP - 28), "", "middle"),
        ],
    )


def _drawn(arrow: _Arrow, row: int, names: dict[str, int]) -> SafeString:
    x1 = _MARGIN + _GAP * names[arrow.sender]
    x2 = _MARGIN + _GAP * names[arrow.receiver]
    y = _TOP + _STEP * row + 22
    look = _LOOKS[arrow.mood]
    if x1 == x2:
        way = f"M {x1} {y - 8} h 22 v 10 h -16"
        head, label_x, anchor, room = _head(x1 + 1, y + 2, -1), x1 + 28, "start", _GAP - 40.0
        label_y = y + 1.0
    else:
        towards = 1 if x2 > x1 else -1
        way = f"M {x1} {y} H {x2 - 7 * towards}"
        head, label_y = _head(x2 - towards, y, towards), y - 6.0
        label_x, anchor = x1 + 8 * towards, "start" if towards > 0 else "end"
        room = abs(x2 - x1) - 20.0
    number = f"{arrow.item.number} "
    mark = "✗ " if arrow.mood is Mood.FAILED else ""
    label = number + mark + svg.ending(arrow.label, room - svg.CHARACTER * len(number + mark))
    return svg.group(
        f"outbox-flow-arrow outbox-flow-{look}",
        arrow.title,
        [
            svg.box(min(x1, x2), y - 20, max(abs(x2 - x1), _GAP - 20), 26, "outbox-flow-area", 0),
            svg.path(way, "outbox-flow-way"),
            svg.path(head, "outbox-flow-head-of-arrow"),
            svg.text(label_x, label_y, label, "", anchor),
        ],
        href=f"#m{arrow.item.number}",
    )


def _head(x: float, y: float, towards: int) -> str:
    return f"M {x} {y} l {-9 * towards} -4.5 v 9 z"

"""Put what flows where into layers from left to right: types, their handlers, what they emit. Pure.

What is layered without circles stands left of what it leads to; arrows that would close a circle
go back.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from outbox.flow.topology import Topology, TypeNode, Use

TYPES = 40
"""Types that a picture has, with their handlers."""
LEADS = 60
"""Arrows to what types lead to that it has, those of the most messages."""
USES = 120
"""Arrows from types to their handlers that it has: what failed, then those of the most messages."""


class Box(NamedTuple):
    """A type or a handler, by its name."""

    kind: Literal["type", "handler"]
    name: str


@dataclass(frozen=True, slots=True)
class Arrow:
    """A type goes to a handler (`use`); or a type, or its only handler, leads to `count` others."""

    start: Box
    end: Box
    use: Use | None = None
    count: int = 0


@dataclass(frozen=True, slots=True)
class Layers:
    """Boxes in columns, and the arrows between them; `left` are the types and arrows left out."""

    columns: Sequence[Sequence[Box]]
    arrows: Sequence[Arrow]
    types: Mapping[Box, TypeNode]
    uses: Mapping[Box, Sequence[Use]]
    left: int


def layered(topology: Topology, *, most: int = TYPES) -> Layers:
    """Return the layers of a topology: of the types that matter most, at most `most`."""
    types = sorted(topology.types, key=_importance)
    shown, names = types[:most], {each.name for each in types[:most]}
    found = [arrow for each in shown for arrow in _arrows(each, names)]
    leads = sorted((each for each in found if each.use is None), key=_traffic)
    handled = sorted((each for each in found if each.use is not None), key=_traffic)
    arrows = handled[:USES] + leads[:LEADS]
    boxes = [Box("type", each.name) for each in shown]
    boxes += [arrow.end for arrow in arrows if arrow.use is not None]
    boxes = sorted(set(boxes))
    uses: dict[Box, list[Use]] = defaultdict(list)
    for arrow in arrows:
        if arrow.use is not None:
            uses[arrow.end].append(arrow.use)
    return Layers(
        columns=_columns(boxes, _forward(boxes, arrows)),
        arrows=arrows,
        types={Box("type", each.name): each for each in shown},
        uses=uses,
        left=len(types) - len(shown) + len(leads[LEADS:]) + len(handled[USES:]),
    )


def _importance(each: TypeNode) -> tuple[bool, bool, int, str]:
    failed = sum(use.failed for use in each.uses)
    drifts = each.declared != each.seen
    traffic = each.emitted + sum(use.count for use in each.uses)
    return not failed, not drifts, -traffic, each.name


def _traffic(arrow: Arrow) -> tuple[bool, int, Box, Box]:
    use = arrow.use
    count = arrow.count if use is None else use.count
    return use is None or not use.failed, -count, arrow.start, arrow.end


def _arrows(each: TypeNode, names: set[str]) -> Iterator[Arrow]:
    start = Box("type", each.name)
    for use in each.uses:
        yield Arrow(start, Box("handler", use.handler), use=use)
    # Which handler has emitted a message is not in the rows; of only one it is certain enough.
    active = [use for use in each.uses if use.count] or each.uses
    source = Box("handler", active[0].handler) if len(active) == 1 else start
    for name, count in each.causes.items():
        if name in names:
            yield Arrow(source, Box("type", name), count=count)


def _forward(boxes: Sequence[Box], arrows: Sequence[Arrow]) -> Mapping[Box, list[Box]]:
    """Return where arrows lead to, without those that close a circle."""
    out: dict[Box, list[Box]] = defaultdict(list)
    incoming: set[Box] = set()
    for arrow in arrows:
        out[arrow.start].append(arrow.end)
        incoming.add(arrow.end)
    kept: dict[Box, list[Box]] = {box: [] for box in boxes}
    done: set[Box] = set()
    for root in sorted(boxes, key=lambda box: (box in incoming, box)):
        if root in done:
            continue
        way, on_way = [(root, iter(out[root]))], {root}
        while way:
            box, ends = way[-1]
            end = next(ends, None)
            if end is None:
                way.pop()
                on_way.discard(box)
                done.add(box)
            elif end not in on_way:
                kept[box].append(end)
                if end not in done:
                    way.append((end, iter(out[end])))
                    on_way.add(end)
    return kept


def _columns(boxes: Sequence[Box], forward: Mapping[Box, list[Box]]) -> list[list[Box]]:
    """Put each box behind all that lead to it; the longest way decides."""
    degree: dict[Box, int] = dict.fromkeys(boxes, 0)
    for ends in forward.values():
        for end in ends:
            degree[end] += 1
    place = dict.fromkeys(boxes, 0)
    waiting = [box for box in boxes if not degree[box]]
    while waiting:
        box = waiting.pop()
        for end in forward[box]:
            place[end] = max(place[end], place[box] + 1)
            degree[end] -= 1
            if not degree[end]:
                waiting.append(end)
    found: list[list[Box]] = [[] for _ in range(max(place.values(), default=-1) + 1)]
    for box in boxes:
        found[place[box]].append(box)
    return found

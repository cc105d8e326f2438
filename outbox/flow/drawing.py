"""Where the boxes of a picture of layers stand, and which way its arrows take. Pure.

Between two columns there is a lane for arrows, and one for their labels before each column; above
each band is a lane for what comes from elsewhere. Arrows go straight across columns only where a
slot is kept free for them, so none of them meets a box or a label. Those that begin at one box
have one way as far as they go together; arrows of two boxes cross, and never lie upon each other.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from outbox.flow.layers import Arrow, Box, Layers
from outbox.flow.ordering import Order, Pass, Slot

WIDTH = 990
"""Pixels that a picture is wide, at most: beside Django's sidebar a window of 1400 has no more."""
BOX = 188
LABEL = 130
"""Pixels of the longest label."""
HEIGHT = 46
MARGIN = 12
GAP = 12
PASS = 10
LABELLED, BARE = 18, 8
"""Heights of the end of an arrow at its box, with a label above it and without."""
LANE, TIGHT = 7.0, 4.0
"""Between two arrows side by side, and how close they come where there is little room."""
HEAD = 12
"""Pixels of an arrow before its box that no label reaches."""
MOST_ACROSS = 6
_SWEEPS = 6
_NEAR = 1.5


class Rect(NamedTuple):
    """A rectangle, by its upper left corner."""

    x: float
    y: float
    width: float
    height: float


class Point(NamedTuple):
    """A point, from the upper left corner of the picture."""

    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Route:
    """The way of an arrow, in horizontal and vertical pieces, and the room for its label."""

    arrow: Arrow
    points: Sequence[Point]
    label: Rect | None


@dataclass(frozen=True, slots=True)
class Drawing:
    """Where all of it is."""

    width: float
    height: float
    boxes: Mapping[Box, Rect]
    routes: Sequence[Route]


def drawn(layers: Layers, labels: Mapping[Arrow, float]) -> Drawing:
    """Return a picture in which as many layers stand side by side as there is room for.

    `labels` are the widths of the labels of arrows in pixels, at most LABEL; others have none.
    """
    tied = {box for arrow in layers.arrows for box in (arrow.start, arrow.end)}
    columns = [[box for box in column if box in tied] for column in layers.columns]
    columns = [column for column in columns if column]
    loose = [box for column in layers.columns for box in column if box not in tied]
    across = min(len(columns), MOST_ACROSS)
    while True:
        across = _even(len(columns), across)
        sketch = _Sketch(Order(columns, layers.arrows, max(across, 1)), labels)
        if across <= 2 or sketch.width(TIGHT) <= WIDTH:
            return sketch.finish(loose)
        across -= 1


def _even(count: int, across: int) -> int:
    """Return how many columns there are in bands that are equally wide."""
    bands = -(-count // across) if across else 1
    return -(-count // bands)


@dataclass(slots=True)
class _Sketch:
    """What is known while a picture is made: heights first, then lanes, and widths last."""

    order: Order
    labels: Mapping[Arrow, float]
    centre: dict[Slot, float] = field(default_factory=dict)
    out: dict[Slot, float] = field(default_factory=dict)
    """Where arrows leave a slot, on its right."""
    port: dict[Arrow, float] = field(default_factory=dict)
    """Where they come to their box, on its left."""
    gutter: dict[tuple[Box, int], float] = field(default_factory=dict)
    """Where the arrows of a box go along above a band."""
    track: dict[tuple[Box, int], int] = field(default_factory=dict)
    """The place of the arrows of a box in the lane left of a column."""
    tracks: list[int] = field(default_factory=list)
    ends: dict[Box, list[Arrow]] = field(default_factory=dict)
    bottom: float = 0.0

    def __post_init__(self) -> None:
        ends: dict[Box, list[Arrow]] = defaultdict(list)
        for arrow in (*self.order.inner, *self.order.outer):
            ends[arrow.end].append(arrow)
        self.ends = ends
        self.bottom = MARGIN
        around = self._around()
        for number, band in enumerate(self.order.bands()):
            lanes = _fitted(around[number], 0)
            for start, lane in lanes.items():
                self.gutter[start, number] = self.bottom + lane * LANE
            if lanes:
                self.bottom += (max(lanes.values()) + 1) * LANE + GAP
            self._stack(band)
            self.bottom += GAP
        for band in self.order.bands():
            self._ports(band)
        self._lanes()

    # --- From top to bottom ----------------------------------------------------------------------

    def _around(self) -> Mapping[int, dict[Box, tuple[float, float]]]:
        """Return what goes along above each band: which boxes' arrows, between which columns."""
        found: dict[int, dict[Box, tuple[float, float]]] = defaultdict(dict)
        for arrow in filter(self._goes_around, self.order.outer):
            of = found[self._band(arrow.end)]
            places = self._column(arrow.start) + 1, self._column(arrow.end)
            low, high = of.get(arrow.start, (min(places), max(places)))
            of[arrow.start] = min(low, *places), max(high, *places)
        return found

    def _goes_around(self, arrow: Arrow) -> bool:
        """Tell whether an arrow does not come to its box from the lane into which it leaves."""
        return self._column(arrow.start) + 1 != self._column(arrow.end)

    def _height(self, slot: Slot) -> float:
        if isinstance(slot, Pass):
            return PASS
        return max(HEIGHT, sum(map(self._room, self.ends.get(slot, ()))) + GAP)

    def _room(self, arrow: Arrow) -> float:
        return LABELLED if self.labels.get(arrow) else BARE

    def _stack(self, band: Sequence[list[Slot]]) -> None:
        """Put the slots of a band below each other, near what they are tied to."""
        order, heights = self.order, {slot: self._height(slot) for layer in band for slot in layer}
        at: dict[Slot, float] = {}
        for layer in band:
            at |= _settled(layer, heights, dict.fromkeys(layer, 0.0))
        for number in range(_SWEEPS):
            forward = number % 2 == 1
            tied = order.before if forward else order.behind
            for layer in band if forward else reversed(band):
                wanted = {
                    slot: sum(at[each] for each in tied[slot]) / len(tied[slot])
                    if tied.get(slot)
                    else at[slot]
                    for slot in layer
                }
                at |= _settled(layer, heights, wanted)
        top = min(at[slot] - heights[slot] / 2 for slot in at)
        for slot, middle in at.items():
            self.centre[slot] = round(middle - top + self.bottom)
        self.bottom = max(self.centre[slot] + heights[slot] / 2 for slot in at)

    def _ports(self, band: Sequence[list[Slot]]) -> None:
        """Set where arrows leave and come in, from right to left: what comes in goes first."""
        taken: list[tuple[float, Box]] = []
        for layer in reversed(band):
            for slot in layer:
                self.out[slot] = self._free(slot, taken)
            taken = []
            for slot in layer:
                if isinstance(slot, Pass):
                    taken.append((self.out[slot], slot.start))
                else:
                    self._come_in(slot)
                    taken += [(self.port[each], each.start) for each in self.ends.get(slot, ())]

    def _free(self, slot: Slot, taken: Iterable[tuple[float, Box]]) -> float:
        """Return where a slot is left, at another height than what comes in from elsewhere."""
        start = slot.start if isinstance(slot, Pass) else slot
        others = [y for y, of in taken if of != start]
        reach = PASS / 2 - 1 if isinstance(slot, Pass) else self._height(slot) / 2 - 6
        middle = self.centre[slot]
        steps = [middle + sign * n for n in range(0, int(reach) + 1, 2) for sign in (1, -1)]
        return next((y for y in steps if all(abs(y - each) > _NEAR for each in others)), middle)

    def _come_in(self, box: Box) -> None:
        """Spread the ends of arrows on the left of a box, as high as where they come from."""

        def height(arrow: Arrow) -> tuple[bool, float, Arrow]:
            way = self.order.inner.get(arrow)
            return way is not None, self.centre[way[-2]] if way else 0.0, arrow

        arrows = sorted(self.ends.get(box, ()), key=lambda each: height(each)[:2])
        rooms = [self._room(arrow) for arrow in arrows]
        y = self.centre[box] - sum(rooms) / 2
        if any(room == LABELLED for room in rooms):
            y -= LABELLED / 3  # an arrow alone comes to the middle
        for arrow, room in zip(arrows, rooms, strict=True):
            self.port[arrow] = y + (room - 3 if room == LABELLED else room / 2)
            y += room

    # --- Lanes -----------------------------------------------------------------------------------

    def _lanes(self) -> None:
        """Give the arrows of each box a track in each lane that they go up or down in."""
        found: dict[int, dict[Box, list[float]]] = defaultdict(lambda: defaultdict(list))
        leave: dict[tuple[int, Box], float] = {}
        for arrow in self.port:
            for lane, first, last in self._climbs(arrow):
                found[lane][arrow.start] += [first, last]
                leave.setdefault((lane, arrow.start), first)
        self.tracks = []
        for lane in range(self.order.across + 1):
            spans = {
                box: (min(ys), max(ys)) for box, ys in found[lane].items() if min(ys) != max(ys)
            }

            turns = {box: _turn(leave[lane, box], *span) for box, span in spans.items()}
            chosen = _fitted({box: spans[box] for box in sorted(spans, key=turns.__getitem__)}, 6)
            for box, track in chosen.items():
                self.track[box, lane] = track
            self.tracks.append(max(chosen.values(), default=-1) + 1)

    def _climbs(self, arrow: Arrow) -> list[tuple[int, float, float]]:
        """Return in which lanes an arrow goes from which height to which."""
        column = self._column(arrow.end)
        way = self.order.inner.get(arrow)
        if way is None and not self._goes_around(arrow):
            return [(column, self.out[arrow.start], self.port[arrow])]
        if way is None:
            above = self.gutter[arrow.start, self._band(arrow.end)]
            leaves = self._column(arrow.start) + 1
            return [(leaves, self.out[arrow.start], above), (column, above, self.port[arrow])]
        heights = [*(self.out[slot] for slot in way[:-1]), self.port[arrow]]
        first = self._column(arrow.start) + 1
        return [(first + n, *pair) for n, pair in enumerate(pairwise(heights))]

    def _band(self, box: Box) -> int:
        return self.order.band(self.order.layer[box])

    def _column(self, box: Box) -> int:
        return self.order.layer[box] % self.order.across

    # --- From left to right ----------------------------------------------------------------------

    def _label_rooms(self) -> list[float]:
        """Return how wide the lane of labels is before each column."""
        rooms = [0.0] * self.order.across
        for arrow in self.port:
            column, width = self._column(arrow.end), min(self.labels.get(arrow, 0.0), LABEL)
            rooms[column] = max(rooms[column], width + 2 * HEAD if width else 2.0 * HEAD)
        return rooms

    def width(self, pitch: float) -> float:
        """Return how wide it is with so many pixels between arrows."""
        return self._fixed() + sum(self.tracks) * pitch

    def _fixed(self) -> float:
        lanes = sum(GAP for tracks in self.tracks if tracks)
        return 2 * MARGIN + BOX * self.order.across + sum(self._label_rooms()) + lanes

    def finish(self, loose: Sequence[Box]) -> Drawing:
        """Return the picture, with boxes that no arrow leads to or from below the others."""
        pitch = LANE
        if total := sum(self.tracks):
            pitch = min(LANE, max(0.5, (WIDTH - self._fixed()) / total))
        lanes, lefts, x = [], [], float(MARGIN)
        for tracks, room in zip(self.tracks, [*self._label_rooms(), 0.0], strict=True):
            lanes.append(x + GAP / 2)
            x += tracks * pitch + (GAP if tracks else 0) + room
            lefts.append(x)
            x += BOX
        width = x - BOX + MARGIN
        boxes = {
            box: Rect(lefts[self._column(box)], self.centre[box] - height / 2, BOX, height)
            for box in self.order.layer
            for height in [self._height(box)]
        }
        routes = [self._route(arrow, boxes, lanes, pitch) for arrow in self.port]
        across = max(1, int((WIDTH - 2 * MARGIN + GAP) // (BOX + GAP)))
        for number, box in enumerate(loose):
            row, column = divmod(number, across)
            y = self.bottom + row * (HEIGHT + GAP)
            boxes[box] = Rect(MARGIN + column * (BOX + GAP), y, BOX, HEIGHT)
        ends = [(each.x + each.width, each.y + each.height) for each in boxes.values()]
        right = max((x for x, _ in ends), default=0.0) + MARGIN
        return Drawing(
            width=max(width if self.port else 0.0, right),
            height=max([self.bottom - GAP, *(y for _, y in ends)]) + MARGIN,
            boxes=boxes,
            routes=routes,
        )

    def _route(
        self, arrow: Arrow, boxes: Mapping[Box, Rect], lanes: Sequence[float], pitch: float
    ) -> Route:
        start, end = boxes[arrow.start], boxes[arrow.end]
        points = [Point(start.x + start.width, self.out[arrow.start])]
        for lane, first, last in self._climbs(arrow):
            if first != last:
                x = lanes[lane] + self.track[arrow.start, lane] * pitch
                points += [Point(x, first), Point(x, last)]
        points.append(Point(end.x, self.port[arrow]))
        width = min(self.labels.get(arrow, 0.0), LABEL)
        y = self.port[arrow]
        label = Rect(end.x - HEAD - width, y - LABELLED + 4, width, LABELLED - 5)
        return Route(arrow, points, label if width else None)


def _turn(leaves: float, top: float, end: float) -> float:
    """Return by what arrows are sorted that leave a column, so that few of them cross.

    Of those that go down, the upper ones turn last; of those that go up, they turn first.
    """
    return -leaves if end - leaves >= leaves - top else leaves


def _settled(
    layer: Sequence[Slot], heights: Mapping[Slot, float], wanted: Mapping[Slot, float]
) -> dict[Slot, float]:
    """Return the middles of slots in their order, as near as can be to what is wanted.

    That is a regression by a rising step function: what is too near is put together and moved.
    """
    offsets, offset = [], 0.0
    for number, slot in enumerate(layer):
        if number:
            offset += (heights[layer[number - 1]] + heights[slot]) / 2 + GAP
        offsets.append(offset)
    pools: list[tuple[float, int]] = []
    for slot, offset in zip(layer, offsets, strict=True):
        value, count = wanted[slot] - offset, 1
        while pools and pools[-1][0] > value:
            before, size = pools.pop()
            value = (before * size + value * count) / (size + count)
            count += size
        pools.append((value, count))
    moved = [value for value, count in pools for _ in range(count)]
    return {slot: moved[n] + offsets[n] for n, slot in enumerate(layer)}


def _fitted(spans: Mapping[Box, tuple[float, float]], apart: float) -> dict[Box, int]:
    """Return tracks on which spans do not meet: each has the first that is free."""
    taken: list[list[tuple[float, float]]] = []
    found: dict[Box, int] = {}
    for box, (low, high) in spans.items():
        free = (
            number
            for number, others in enumerate(taken)
            if all(high + apart < start or end + apart < low for start, end in others)
        )
        number = next(free, len(taken))
        if number == len(taken):
            taken.append([])
        taken[number].append((low, high))
        found[box] = number
    return found

"""Order what stands in layers, so that few arrows cross. Pure; after Sugiyama, Tagawa and Toda.

An arrow that goes past a layer has a place in it like a box. Layers stand side by side in bands,
as many as there is room for; what leads to another band, or back, goes around outside of them.
"""

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from outbox.flow.layers import Arrow, Box

ROUNDS = 8
"""Times that all layers are ordered by their neighbours, at most."""


class Pass(NamedTuple):
    """Where the arrows of a box go past a layer, on their way to later ones."""

    start: Box
    layer: int


Slot = Box | Pass
"""What has a place in a layer."""


class Order:
    """The slots of each layer from top to bottom, `across` layers in a band.

    `inner` are the arrows within a band, from left to right, by the slots they go through; `outer`
    are those that go around.
    """

    def __init__(
        self, columns: Sequence[Sequence[Box]], arrows: Sequence[Arrow], across: int
    ) -> None:
        self.across = across
        self.layer = {box: n for n, column in enumerate(columns) for box in column}
        self.layers: list[list[Slot]] = [list(column) for column in columns]
        self.inner: dict[Arrow, list[Slot]] = {}
        self.outer: list[Arrow] = []
        for arrow in arrows:
            first, last = self.layer[arrow.start], self.layer[arrow.end]
            if first < last and self.band(first) == self.band(last):
                between = [Pass(arrow.start, n) for n in range(first + 1, last)]
                self.inner[arrow] = [arrow.start, *between, arrow.end]
            else:
                self.outer.append(arrow)
        for passed in sorted({slot for way in self.inner.values() for slot in way[1:-1]}):
            assert isinstance(passed, Pass)
            self.layers[passed.layer].append(passed)
        self.before: dict[Slot, set[Slot]] = defaultdict(set)
        self.behind: dict[Slot, set[Slot]] = defaultdict(set)
        for way in self.inner.values():
            for left, right in pairwise(way):
                self.behind[left].add(right)
                self.before[right].add(left)
        self._sort()

    def band(self, layer: int) -> int:
        """Return the band that a layer stands in."""
        return layer // self.across

    def bands(self) -> Iterator[Sequence[list[Slot]]]:
        """Yield the layers of each band."""
        for start in range(0, len(self.layers), self.across):
            yield self.layers[start : start + self.across]

    def crossings(self) -> int:
        """Return how many pairs of arrows cross between neighbouring layers."""
        return sum(
            _crossings(left, right, self.behind)
            for band in self.bands()
            for left, right in pairwise(band)
        )

    def _sort(self) -> None:
        best = self.layers, self.crossings()
        for number in range(ROUNDS):
            if not best[1]:
                break
            forward = number % 2 == 0
            neighbours = self.before if forward else self.behind
            found = [list(layer) for layer in self.layers]
            for layer in found if forward else reversed(found):
                at = {slot: n / len(each) for each in found for n, slot in enumerate(each)}
                middle = {
                    slot: sum(at[each] for each in neighbours[slot]) / len(neighbours[slot])
                    if neighbours[slot]
                    else at[slot]
                    for slot in layer
                }
                layer.sort(key=middle.__getitem__)
            self.layers = found
            best = min(best, (found, self.crossings()), key=lambda each: each[1])
        self.layers = best[0]


def _crossings(
    left: Sequence[Slot], right: Sequence[Slot], behind: Mapping[Slot, set[Slot]]
) -> int:
    at = {slot: n for n, slot in enumerate(right)}
    seen: list[int] = []
    count = 0
    for slot in left:
        ends = sorted(at[each] for each in behind.get(slot, ()))
        count += sum(len(seen) - bisect_left(seen, end + 1) for end in ends)
        for end in ends:
            insort(seen, end)
    return count

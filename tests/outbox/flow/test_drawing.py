"""Whatever flows: no arrow of its picture meets a box or a label, and it is never too wide."""

from collections.abc import Iterator, Mapping
from itertools import combinations, pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from outbox.flow.drawing import LABEL, MARGIN, WIDTH, Drawing, Point, Rect, drawn
from outbox.flow.layers import Arrow, Box, Layers, layered
from outbox.flow.ordering import Order
from tests.outbox.flow.test_topology import Declared, topology

EDGE = 0.01


@st.composite
def graphs(draw: st.DrawFn) -> tuple[Layers, Mapping[Arrow, float]]:
    """Types and handlers that lead to each other at random, in circles as well."""
    types = [f"t{n}" for n in range(draw(st.integers(1, 30)))]
    some = st.sampled_from(types)
    causes = draw(st.dictionaries(st.tuples(some, some), st.integers(1, 99), max_size=60))
    uses = draw(st.sets(st.tuples(some, st.integers(0, 12)), max_size=40))
    declared = [Declared(handler=f"h{n}", group="g", pattern=name) for name, n in sorted(uses)]
    layers = layered(topology(types=types, causes=causes, declared=declared))
    width = st.one_of(st.just(0.0), st.floats(1, LABEL * 2))
    return layers, {arrow: draw(width) for arrow in layers.arrows}


def chain(count: int) -> Layers:
    names = [f"t{n:02}" for n in range(count)]
    return layered(topology(types=names, causes=dict.fromkeys(pairwise(names), 3)))


def pieces(points: list[Point]) -> Iterator[Rect]:
    """Yield the pieces of a way as rectangles without width or without height."""
    for (x1, y1), (x2, y2) in pairwise(points):
        assert x1 == x2 or y1 == y2, "neither level nor upright"
        yield Rect(min(x1, x2), min(y1, y2), abs(x2 - x1), abs(y2 - y1))


def meet(one: Rect, other: Rect) -> bool:
    """Tell whether two rectangles have more than an edge in common."""
    return (
        one.x < other.x + other.width - EDGE
        and other.x < one.x + one.width - EDGE
        and one.y < other.y + other.height - EDGE
        and other.y < one.y + one.height - EDGE
    )


def enters(piece: Rect, solid: Rect) -> bool:
    """Tell whether a piece of a way is in a rectangle, and does not only end at its edge."""
    across = piece.x < solid.x + solid.width - EDGE and solid.x + EDGE < piece.x + piece.width
    down = piece.y < solid.y + solid.height - EDGE and solid.y + EDGE < piece.y + piece.height
    return across and down


def lie_upon(one: Rect, other: Rect) -> bool:
    """Tell whether two pieces have a length in common."""
    if one.width == other.width == 0 and one.x == other.x:
        return one.y < other.y + other.height and other.y < one.y + one.height
    if one.height == other.height == 0 and one.y == other.y:
        return one.x < other.x + other.width and other.x < one.x + one.width
    return False


def check(found: Drawing, layers: Layers) -> None:
    assert found.width <= WIDTH + EDGE
    assert set(found.boxes) == {box for column in layers.columns for box in column}
    assert {each.arrow for each in found.routes} == set(layers.arrows)
    whole = Rect(0, 0, found.width, found.height)
    labels = [each.label for each in found.routes if each.label]
    ways = [(each, list(pieces(list(each.points)))) for each in found.routes]
    for one, other in combinations([*found.boxes.values(), *labels], 2):
        assert not meet(one, other)
    for solid in [*found.boxes.values(), *labels]:
        assert solid.x >= MARGIN - EDGE
        assert solid.x + solid.width <= whole.width - MARGIN + EDGE
        assert solid.y >= 0
        assert solid.y + solid.height <= whole.height
        for _route, way in ways:
            assert not any(enters(piece, solid) for piece in way)
    for route, way in ways:
        start, end = found.boxes[route.arrow.start], found.boxes[route.arrow.end]
        (x1, y1), (x2, y2) = route.points[0], route.points[-1]
        assert x1 == start.x + start.width
        assert start.y < y1 < start.y + start.height
        assert x2 == end.x
        assert end.y < y2 < end.y + end.height
        assert route.points[-2].x < x2, "comes from the left"
        assert all(0 <= piece.y <= whole.height and 0 <= piece.x <= whole.width for piece in way)
    for (one_route, one_way), (other_route, other_way) in combinations(ways, 2):
        if one_route.arrow.start != other_route.arrow.start:
            for piece in one_way:
                assert not any(lie_upon(piece, each) for each in other_way)


@settings(max_examples=150, deadline=None)
@given(graphs())
def test_no_arrow_meets_a_box_or_a_label(graph: tuple[Layers, Mapping[Arrow, float]]) -> None:
    """Nor does one lie upon an arrow of another box; all is within the picture."""
    layers, labels = graph
    check(drawn(layers, labels), layers)


def test_a_long_chain_goes_on_in_the_next_band() -> None:
    """And is no wider for it."""
    layers = chain(13)
    found = drawn(layers, dict.fromkeys(layers.arrows, 100.0))
    check(found, layers)

    rows = {each.y for each in found.boxes.values()}
    assert len(rows) > 1
    assert found.height < 700


def test_a_chain_is_straight() -> None:
    """What leads to one thing that nothing else leads to has no corner."""
    layers = chain(3)

    assert [len(each.points) for each in drawn(layers, {}).routes] == [2, 2]


def test_what_nothing_leads_to_stands_below() -> None:
    """In rows of their own, so that many of them make no tower."""
    names = [f"t{n:03}" for n in range(200)]
    layers = layered(topology(types=names, causes={("t000", "t001"): 1}))
    found = drawn(layers, {})
    check(found, layers)

    assert len(found.boxes) == 40
    assert found.boxes[Box("type", "t002")].y > found.boxes[Box("type", "t001")].y
    assert found.height < 700


def test_nothing_at_all() -> None:
    """Is a small picture."""
    found = drawn(layered(topology()), {})

    assert (found.boxes, found.routes) == ({}, [])


def test_fewer_arrows_cross_than_by_name() -> None:
    """Handlers are put where their types are."""
    names = [f"t{n}" for n in range(6)]
    declared = [
        Declared(handler=f"h{5 - n}", group="g", pattern=name) for n, name in enumerate(names)
    ]
    layers = layered(topology(types=names, declared=declared))
    order = Order(layers.columns, layers.arrows, 2)

    assert order.crossings() == 0

"""The layers of what flows where: from left to right, whatever goes round in circles."""

import random

from outbox.extensions.flow import Observed
from outbox.flow.layers import LEADS, Box, layered
from tests.outbox.flow.test_topology import AUDIT, INVOICE, topology


def columns(**about: object) -> list[list[str]]:
    return [[box.name for box in column] for column in layered(topology(**about)).columns]


def test_types_handlers_and_what_they_emit() -> None:
    """Each behind what leads to it."""
    found = columns(
        types=["shop.order.placed", "billing.invoice.issued"],
        declared=[INVOICE],
        observed=[Observed(handler="billing.invoice", type="shop.order.placed", count=4, failed=0)],
        causes={("shop.order.placed", "billing.invoice.issued"): 4},
    )

    assert found == [["shop.order.placed"], ["billing.invoice"], ["billing.invoice.issued"]]


def test_of_several_handlers_nobody_knows_which_has_emitted() -> None:
    """So the arrow begins at the type."""
    layers = layered(
        topology(
            declared=[INVOICE, AUDIT],
            types=["shop.order.placed", "x.done"],
            causes={("shop.order.placed", "x.done"): 1},
        )
    )

    [arrow] = [each for each in layers.arrows if each.use is None]
    assert arrow.start == Box("type", "shop.order.placed")


def test_a_circle_goes_back() -> None:
    """And all of it is there."""
    found = columns(
        types=["a", "b", "c"], causes={("a", "b"): 1, ("b", "c"): 1, ("c", "a"): 1, ("b", "b"): 1}
    )

    assert sorted(name for column in found for name in column) == ["a", "b", "c"]
    assert len(found) == 3


def test_too_much_to_draw() -> None:
    """What failed and what drifts is in the picture before what is busy and well."""
    names = [f"t{n:03}" for n in range(100)]
    layers = layered(
        topology(
            types=names[:-1],
            emitted={name: 1000 - n for n, name in enumerate(names)},
            observed=[Observed(handler="h", type="t050", count=1, failed=1)],
        ),
        most=3,
    )

    assert sorted(layers.types) == [Box("type", name) for name in ("t000", "t050", "t099")]
    assert layers.left == 97


def test_whatever_flows() -> None:
    """Every box stands in one column, and is the same whatever the order it came in."""
    rng = random.Random(5)
    for _ in range(50):
        names = [f"t{n}" for n in range(rng.randrange(1, 20))]
        causes = {(rng.choice(names), rng.choice(names)): 1 for _ in range(rng.randrange(40))}
        seen = [
            Observed(handler=f"h{rng.randrange(5)}", type=rng.choice(names), count=1, failed=0)
            for _ in range(rng.randrange(10))
        ]
        found = layered(topology(types=names, causes=causes, observed=seen))
        boxes = [box for column in found.columns for box in column]

        assert all(found.columns)
        assert len(boxes) == len(set(boxes))
        assert {box.name for box in boxes} == {*names, *(each.handler for each in seen)}
        assert {arrow.start for arrow in found.arrows} <= set(boxes)
        again = layered(topology(types=names[::-1], causes=causes, observed=seen[::-1]))
        assert again.columns == found.columns


def test_too_many_arrows_to_draw() -> None:
    """Those of the most messages are; who handles what always is."""
    names = [f"t{n}" for n in range(20)]
    causes = {(a, b): n * 20 + m for n, a in enumerate(names) for m, b in enumerate(names)}
    layers = layered(topology(types=names, causes=causes, declared=[INVOICE]))
    counts = [arrow.count for arrow in layers.arrows if arrow.use is None]

    assert counts == list(range(399, 399 - LEADS, -1))
    assert layers.left == 400 - LEADS
    assert sum(arrow.use is not None for arrow in layers.arrows) == 1

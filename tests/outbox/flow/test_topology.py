"""What flows where: as declared, as seen, and the difference."""

from typing import Any

from outbox.extensions.flow import Declared, Observed
from outbox.flow import chart
from outbox.flow.topology import Topology

INVOICE = Declared(handler="billing.invoice", group="billing", pattern="shop.order.placed")
AUDIT = Declared(handler="audit.all", group="audit", pattern="shop.#")


def topology(**options: Any) -> Topology:
    empty: dict[str, Any] = {"types": (), "declared": (), "emitted": {}, "observed": ()}
    return Topology(**empty | {"causes": {}, "limit": 1000} | options)


def test_who_handles_what() -> None:
    """Patterns are for every type that is known, wherever it is known from."""
    found = topology(
        types=["shop.order.placed", "shop.order.paid"],
        declared=[INVOICE, AUDIT],
        emitted={"shop.order.placed": 5},
        observed=[
            Observed(handler="billing.invoice", type="shop.order.placed", count=4, failed=1),
            Observed(handler="audit.all", type="shop.parcel.sent", count=2, failed=0),
            Observed(handler="gone.handler", type="shop.order.placed", count=9, failed=9),
        ],
        causes={("shop.order.placed", "billing.invoice.issued"): 4},
    )

    assert list(chart.render(found)) == [
        "Of the newest 1,000 events and receipts:",
        "billing.invoice.issued  not seen  not registered here",
        "shop.order.paid  not seen",
        "└─ audit.all (audit): none",
        "shop.order.placed  5 emitted here",
        "├─ audit.all (audit): none",
        "├─ billing.invoice (billing): 4 received, 1 dead",
        "├─ gone.handler (not in the code): 9 received, 9 dead",
        "└─ causes billing.invoice.issued: 4",
        "shop.parcel.sent  not registered here",
        "└─ audit.all (audit): 2 received",
        "Declared and not seen: type shop.order.paid",
        "Seen and not declared: handler gone.handler",
    ]


def test_a_handler_that_is_for_other_types_now() -> None:
    """It is in the code, so nothing is undeclared of it."""
    found = topology(
        types=["shop.order.placed"],
        declared=[INVOICE],
        observed=[Observed(handler="billing.invoice", type="shop.old", count=1, failed=0)],
    )

    assert "└─ billing.invoice (billing, no longer for it): 1 received" in chart.render(found)
    assert found.not_declared == ["type shop.old"]


def test_what_is_declared_nowhere() -> None:
    """What a handler is for is declared, though only its sender can register it."""
    found = topology(
        declared=[INVOICE],
        emitted={"shop.order.cancelled": 1},
        observed=[Observed(handler="billing.invoice", type="shop.order.placed", count=1, failed=0)],
    )

    assert found.not_declared == ["type shop.order.cancelled"]


def test_a_handler_of_nothing_that_is_known() -> None:
    """Its type is in the picture, if it names one; a pattern alone is no type."""
    found = topology(declared=[INVOICE, AUDIT])

    assert [each.name for each in found.types] == ["shop.order.placed"]
    assert found.not_seen == ["handler audit.all", "handler billing.invoice"]


def test_a_flowchart() -> None:
    """Handlers stand in their groups; what was not seen is dashed; names are no syntax."""
    found = topology(
        declared=[INVOICE],
        emitted={"shop.order.placed": 5},
        observed=[Observed(handler='x"]', type="shop.order.placed", count=1, failed=0)],
        causes={("shop.order.placed", "shop.order.placed"): 2},
    )

    assert list(chart.render_mermaid(found)) == [
        "flowchart LR",
        '    t0(["shop.order.placed"])',
        '    subgraph g0["billing"]',
        '        h0["billing.invoice"]',
        "    end",
        '    subgraph g1["not in the code"]',
        '        h1["x#34;#93;"]',
        "    end",
        "    t0 -.-> h0",
        "    t0 -->|1| h1",
        "    t0 ==>|2| t0",
    ]

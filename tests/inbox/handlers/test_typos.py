"""Handlers for types that nobody registers: which of them are slips of the pen."""

import pytest

from inbox.handlers.typos import meant

KNOWN = {"shop.order.placed", "shop.order.shipped", "billing.invoice.issued_v1"}


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("shop.order.place", "shop.order.placed"),
        ("shop.order.plcaed", "shop.order.placed"),
        ("shop.order.plaxed", "shop.order.placed"),
        ("Shop.Order.Placed", "shop.order.placed"),
        ("shop.order-placed", "shop.order.placed"),
        ("shop.order_placed", "shop.order.placed"),
        ("shop.ordre.*", "shop.order.placed"),
        ("#.plcaed", "shop.order.placed"),
        ("billing.invoces.#", None),
        ("billing.invoic.#", "billing.invoice.issued_v1"),
    ],
)
def test_one_slip_is_told(pattern: str, expected: str | None) -> None:
    """A letter, two that changed places, the case, or what joins the words; two slips are none."""
    assert meant(pattern, KNOWN) == expected


@pytest.mark.parametrize(
    "pattern",
    [
        "shop.order.placed",
        "shop.#",
        "*.order.*",
        "#",
        "shop.order.replaced",
        "shop.order.unshipped",
        "warehouse.parcel.packed",
        "billing.invoice.issued_v2",
        "shop.order",
        "shap.border.laced.x",
        "shop.orders.placed",
        "shop.orders.*",
        "billing.invoices.#",
    ],
)
def test_what_is_selected_or_is_another_thing_is_not_told(pattern: str) -> None:
    """Types of other services are not registered here, and that is no mistake."""
    assert meant(pattern, KNOWN) is None


def test_short_words_are_not_compared() -> None:
    """One letter makes another word of them."""
    assert meant("shop.car.sold", {"shop.cat.sold", "shop.bus.sold"}) is None

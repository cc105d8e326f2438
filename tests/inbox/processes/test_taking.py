"""Each message leads an instance to one step, waits for it, or is refused; nothing is lost."""

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db.models import TextChoices

import outbox
from inbox.processes.declaring import Process, processes
from inbox.processes.intents import Do
from inbox.processes.marks import on
from inbox.processes.testing import Reply, any_order
from outbox.exceptions import ConfigurationError, InvalidEvent
from tests.inbox.processes.fulfilment import (
    Charge,
    Declined,
    Fulfilment,
    GivenUp,
    Invoiced,
    Lost,
    Placed,
    Refund,
    Refunded,
    Reserved,
    Ship,
    Shipped,
    Taken,
)

State = Fulfilment.State
PLACED, RESERVED, INVOICED = Placed(1, Decimal(9)), Reserved(1), Invoiced(1, "R-1")
SHIP, SHIPPED, LOST = Ship(1, "parcel-1"), Shipped("parcel-1"), Lost("parcel-1")


def test_the_first_step() -> None:
    """It has the data that the event has of it, and what is awaited."""
    run = Fulfilment.given(PLACED)
    run.then(
        State.AWAITING,
        asks=[Charge(1, Decimal(9))],
        emits=[],
        timers=["unpaid"],
        data=Fulfilment.Data(1, Decimal(9)),
    )
    assert run.last().number == 1


def test_to_the_end() -> None:
    """By a reply, by two events that are both needed, and by an alias."""
    run = Fulfilment.given(PLACED).replied(Charge, Taken("p-1"))
    run.then(State.PAID, timers=[], cancels=["unpaid"], emits=[])
    run.given(INVOICED).then(State.PAID, emits=[])
    run.given(RESERVED).then(State.SHIPPING, emits=[SHIP])
    run.given(SHIPPED).then(State.SHIPPED, data=Fulfilment.Data(1, Decimal(9), "p-1", "R-1"))
    assert run.last().ended
    assert [each.number for each in run.steps["1"]] == [1, 2, 3, 4, 5]


def test_what_is_early_waits() -> None:
    """Before the first step as well; it says for what."""
    run = Fulfilment.given(RESERVED).then_waits(RESERVED)
    assert run.waiting[0].why == (
        "No instance has this key yet, and tests.stock.reserved v1 starts none."
    )
    run.given(PLACED).then_waits(RESERVED)
    assert run.waiting[0].why == "State awaiting does not handle tests.stock.reserved v1."
    run.replied(Charge, Taken("p-1")).given(INVOICED).then(State.SHIPPING, emits=[SHIP])
    assert not run.waiting


def test_what_waits_for_too_long_is_for_a_person() -> None:
    run = Fulfilment.given(RESERVED).after(timedelta(minutes=29)).then_waits(RESERVED)
    run.after(timedelta(minutes=1)).then_rejects(RESERVED)


def test_what_comes_after_the_end() -> None:
    """It is skipped where the process says so; else a person looks."""
    run = Fulfilment.given(PLACED).ended(Charge, "failed").then(State.CANCELLED)
    run.given(INVOICED).then_skips(INVOICED)
    run.given(RESERVED).then_rejects(RESERVED)
    assert run.last().number == 2


def test_a_timer() -> None:
    """It comes when it is due, and not before."""
    run = Fulfilment.given(PLACED).after(timedelta(days=2)).then(State.AWAITING, emits=[])
    run.after(timedelta(days=1)).then(State.CANCELLED, emits=[GivenUp(1)], timers=[], cancels=[])


def test_what_may_have_been_done_is_awaited_and_undone() -> None:
    """The order is given up before the payment is known: it ends when that is undone."""
    run = Fulfilment.given(PLACED).after(timedelta(days=3))
    run.then(State.CANCELLED, asks=[Charge(1, Decimal(9))])
    assert not run.last().ended
    run.replied(Charge, Taken("p-1")).then(State.CANCELLED, asks=[Charge(1, Decimal(9)), Refund(1)])
    assert not run.last().ended
    run.replied(Refund, Refunded("p-1"))
    assert run.last().ended


@pytest.mark.parametrize(("outcome", "undone"), [("expired", True), ("failed", False)])
def test_what_is_not_known_is_undone_what_has_failed_is_not(outcome: str, undone: bool) -> None:
    run = Fulfilment.given(PLACED).after(timedelta(days=3)).ended(Charge, outcome)
    assert [each.event for each in run.asked[1:]] == ([Refund(1)] if undone else [])
    assert run.last().ended is not undone


def test_what_was_declined_is_not_undone() -> None:
    run = Fulfilment.given(PLACED).after(timedelta(days=3)).replied(Charge, Declined("no money"))
    assert run.last().ended
    assert len(run.asked) == 1


def test_what_is_not_undone_needs_a_person() -> None:
    """The instance is stuck, says on what, and has not ended."""
    run = Fulfilment.given(PLACED).replied(Charge, Taken("p-1")).given(RESERVED, INVOICED, LOST)
    run.then(State.CANCELLED, asks=[Charge(1, Decimal(9)), Refund(1)])
    run.replied(Refund, Declined("closed"))
    assert run.last().stuck == "tests.refund has not undone it: tests.payment.declined"
    assert not run.last().ended


def test_the_order_does_not_matter() -> None:
    """Whatever comes first, and again: one end."""
    run = any_order(Fulfilment, [PLACED, RESERVED, INVOICED, Reply(Charge, Taken("p-1")), SHIPPED])
    run.then(State.SHIPPED, emits=[SHIP])


def test_hypothesis_chooses_among_many_orders() -> None:
    charge, others = Charge(1, Decimal(9)), [Placed(2, Decimal(5)), Reserved(2)]
    run = any_order(
        Fulfilment,
        [PLACED, RESERVED, INVOICED, Reply(charge, Taken("p-1")), SHIPPED, *others],
    )
    run.then(State.SHIPPED, key="1")
    run.then(State.AWAITING, key="2")


def test_an_order_that_matters_is_told() -> None:
    """With both orders, and what came of each."""

    @outbox.event("tests.bid")
    @dataclass(frozen=True)
    class Bid:
        lot: int
        amount: int

    class Auction(Process, name="tests.auction"):
        class State(TextChoices):
            OPEN = "open"
            SOLD = "sold"

        @dataclass
        class Data:
            lot: int
            amount: int

        data: Data
        final = (State.SOLD,)

        @on(Bid, key="lot", starts=True, frm=State.OPEN, to=(State.OPEN, State.SOLD))
        def bid(self, event: Bid, do: Do) -> str:
            self.data.amount = event.amount
            return self.State.SOLD if event.amount > 5 else self.State.OPEN

    try:
        with pytest.raises(AssertionError, match=r"another end in another order") as caught:
            any_order(Auction, [Bid(1, 2), Bid(1, 9)])
        assert "'waiting': " in str(caught.value) or "rejected" in str(caught.value)
    finally:
        processes.remove("tests.auction")


def test_what_a_method_raises_is_raised_and_nothing_has_happened() -> None:
    class Failing(Process, name="tests.failing"):
        class State(TextChoices):
            OPEN = "open"

        final = (State.OPEN,)

        @on(Placed, key="order_id", starts=True, to=State.OPEN)
        def placed(self, event: Placed, do: Do) -> None:
            do.emit(GivenUp(event.order_id))
            do.emit(GivenUp("one"))  # type: ignore[arg-type]

    try:
        run = Failing.given()
        with pytest.raises(InvalidEvent, match="order_id"):
            run.given(PLACED)
        assert not run.steps
        assert not run.emitted
    finally:
        processes.remove("tests.failing")


def test_data_that_the_event_does_not_have() -> None:
    class Poor(Process, name="tests.poor"):
        class State(TextChoices):
            OPEN = "open"

        @dataclass
        class Data:
            customer: str

        final = (State.OPEN,)

        @on(Placed, key="order_id", starts=True, to=State.OPEN)
        def placed(self, event: Placed, do: Do) -> None:
            pass

    try:
        with pytest.raises(ConfigurationError, match=r"self\.data = self\.Data\(customer\)"):
            Poor.given(PLACED)
    finally:
        processes.remove("tests.poor")

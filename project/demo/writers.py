"""Place orders and change them from several threads, the way a busy shop does, and a clumsy one."""

import random
import threading
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from uuid import UUID

from django.db import connections, transaction

from project.demo.reconcile import AMENDED, CANCELLED, PAID, PLACED, Event
from project.demo.truth import Truth
from project.shop.factories import OrderFactory
from project.shop.models import Order

ROLLED_BACK = 0.08
"""Which part of the orders, and of the changes, is rolled back in the end."""
SAVEPOINT = 0.08
"""Which part of the orders comes with a change that is rolled back to its savepoint."""
SLOW = 0.05
"""Which part of the orders takes a transaction that stays open for SLOW_SECONDS."""
SLOW_SECONDS = (0.2, 1.0)
RECENT = 30
"""Changes are made to one of so many orders, so that writers meet on the same ones."""


class ChangedMind(Exception):
    """Rolls a transaction or a savepoint back."""


class Gate:
    """Holds the writers at some marks, so that there is something to write after each crash."""

    def __init__(self, marks: int) -> None:
        self._passed = [threading.Event() for _ in range(marks)]

    def open_next(self) -> None:
        """Let the writers pass the first mark that still holds them, if there is one."""
        closed = (passed for passed in self._passed if not passed.is_set())
        if (passed := next(closed, None)) is not None:
            passed.set()

    def open_all(self) -> None:
        for passed in self._passed:
            passed.set()

    def wait(self, done: float) -> None:
        """Wait at the marks that lie before the part `done` (0 … 1) of the work."""
        for mark, passed in enumerate(self._passed, start=1):
            if done >= mark / (len(self._passed) + 1):
                passed.wait()


class Writer(threading.Thread):
    """One client of the shop with a database connection of its own."""

    def __init__(self, name: str, *, seed: int, truth: Truth, stop: threading.Event) -> None:
        super().__init__(name=name, daemon=True)
        self.error: Exception | None = None
        self._random = random.Random(seed)  # noqa: S311
        self._truth = truth
        self._stop_requested = stop
        self._work: Callable[[], None] = lambda: None

    def assign(self, orders: int, gate: Gate) -> "Writer":
        """Let this writer place so many orders, with changes in between."""

        def work() -> None:
            for number in range(orders):
                gate.wait(number / orders)
                if self._stop_requested.is_set():
                    return
                self.place(f"{self.name}-{number}")
                for _ in range(self._random.randint(0, 4)):
                    self.change()

        self._work = work
        return self

    def run(self) -> None:
        try:
            self._work()
        except Exception as exc:
            self.error = exc
        finally:
            connections.close_all()

    def place(self, reference: str) -> None:
        """Place an order in one transaction, which may be slow, or roll back in the end."""
        order = OrderFactory.build(reference=reference)
        events = []
        try:
            with transaction.atomic():
                order.place()
                order.save()
                events.append(Event(order.pk, PLACED, order.sequence))
                if self._happens(SLOW):
                    self._stop_requested.wait(self._random.uniform(*SLOW_SECONDS))
                    # An old transaction that emits late: its position is high, its id low.
                    order.amend(order.total + 1)
                    order.save()
                    events.append(Event(order.pk, AMENDED, order.sequence))
                if self._happens(SAVEPOINT):
                    self._change_and_roll_back(order.pk)
                if self._happens(ROLLED_BACK):
                    raise ChangedMind
        except ChangedMind:
            self._truth.order_rolled_back(order.pk)
        else:
            self._truth.order_committed(order.pk, events)

    def change(self) -> None:
        """Change one of the recent orders, whoever placed it."""
        candidates = self._truth.recent(RECENT)
        if not candidates:
            return
        pk = self._random.choice(candidates)
        try:
            with transaction.atomic():
                event = self._change(_locked(pk))
                if self._happens(ROLLED_BACK):
                    raise ChangedMind
        except ChangedMind:
            self._truth.change_rolled_back()
        else:
            self._truth.change_committed(event)

    def _change(self, order: Order) -> Event:
        choices = [AMENDED, AMENDED]
        choices += [PAID] * (order.paid is None)
        choices += [CANCELLED] * (order.cancelled is None)
        match chosen := self._random.choice(choices):
            case "shop.order.amended":
                order.amend(order.total + Decimal("0.50"))
            case "shop.order.paid":
                order.pay()
            case _:
                order.cancel()
        order.save()
        return Event(order.pk, chosen, order.sequence)

    def _change_and_roll_back(self, pk: UUID) -> None:
        with suppress(ChangedMind), transaction.atomic():
            # Another instance: on `order` itself the events would stay recorded, to be emitted
            # by its next save().
            self._change(_locked(pk))
            raise ChangedMind
        self._truth.change_rolled_back()

    def _happens(self, share: float) -> bool:
        return self._random.random() < share


def _locked(pk: UUID) -> Order:
    return Order.objects.select_for_update().get(pk=pk)

"""What the writers know of their own transactions, whatever the database says."""

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from uuid import UUID

from project.demo.reconcile import Event


@dataclass(slots=True)
class Truth:
    """The events that committed and the orders that were tried; shared by all writers."""

    committed: set[Event] = field(default_factory=set)
    placed: list[UUID] = field(default_factory=list)
    rolled_back: set[UUID] = field(default_factory=set)
    undone: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def tried(self) -> list[UUID]:
        """Return the ids of all orders that are finished, committed or rolled back."""
        with self._lock:
            return [*self.placed, *self.rolled_back]

    def order_committed(self, order: UUID, events: Iterable[Event]) -> None:
        with self._lock:
            self.placed.append(order)
            self.committed.update(events)

    def order_rolled_back(self, order: UUID) -> None:
        with self._lock:
            self.rolled_back.add(order)

    def change_committed(self, event: Event) -> None:
        with self._lock:
            self.committed.add(event)

    def change_rolled_back(self) -> None:
        with self._lock:
            self.undone += 1

    def recent(self, count: int) -> list[UUID]:
        """Return the orders that committed last."""
        with self._lock:
            return self.placed[-count:]

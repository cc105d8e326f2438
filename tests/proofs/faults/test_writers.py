"""Writers do nothing behind the back of whoever pauses them."""

import threading

from tests.proofs.faults.writers import Writer


class Fickle(threading.Event):
    """A gate that is closed again by the time that somebody has woken up who waited for it."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = threading.Semaphore(0)

    def wait(self, timeout: float | None = None) -> bool:
        self.waiting.release()
        opened = super().wait(timeout)
        self.clear()
        return opened


class Counting(Writer):
    """Counts changes instead of making them."""

    changes = 0

    def _change(self, count: int) -> None:
        self.changes += count


def test_a_writer_that_is_paused_before_it_has_begun_changes_nothing() -> None:
    """It has been seen idle, and what it did from then on would not be counted."""
    gate = Fickle()
    writer = Counting(1000, gate)
    writer.start()
    assert gate.waiting.acquire(timeout=10)

    gate.set()

    assert gate.waiting.acquire(timeout=10)
    assert writer.changes == 0

"""What tests of ordered handlers share."""

from outbox.message.envelope import Envelope
from tests.inbox.support import (
    happened,
    record,
    turn,
)
from tests.testapp.events import Happened


class Breakable:
    """Records, but fails on the numbers that are broken."""

    def __init__(self, *broken: int, exc: type[Exception] = ValueError) -> None:
        self.broken = set(broken)
        self.calls: list[int] = []
        self._exc = exc

    def __call__(self, event: Happened, message: Envelope) -> None:
        self.calls.append(event.number)
        if event.number in self.broken:
            raise self._exc("no luck")
        record(event, message)


def numbered(*numbers: int, key: str = "k") -> list[Envelope]:
    return [happened(number, key) for number in numbers]


def drain() -> int:
    """Take turns until nothing is due; return how many it took."""
    turns = 0
    while turn().settled:
        turns += 1
        assert turns < 100
    return turns

"""The event types and handlers that benchmarks.weeks writes about."""

from dataclasses import make_dataclass
from typing import Any

import outbox
from benchmarks import weeks
from inbox import handler


def declare() -> None:
    """Register them all."""
    for kind in range(weeks.TYPES):
        name = f"shop.line{kind % weeks.LINES}.kind{kind}"
        outbox.event(name)(make_dataclass(f"Kind{kind}", [("order", str)], frozen=True))
    for line in range(weeks.LINES):
        group = f"group{line % weeks.GROUPS}"
        handler(f"shop.line{line}.*", name=f"{group}.line{line}", group=group)(_handle(line))


def _handle(line: int) -> Any:
    def handle(event: Any, message: outbox.Envelope) -> None:
        """Do nothing: nobody calls it."""

    handle.__qualname__ = f"handle_line{line}"
    return handle

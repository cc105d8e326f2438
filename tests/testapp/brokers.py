"""A broker for relays that run as processes: what it confirms stands in a file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from outbox.message.envelope import Envelope
from relay.brokers.base import CONFIRMED, Broker, Outcome


class FileBroker(Broker):
    """Appends the id of each message as a line to the file that its URL names."""

    confirms = ordered = durable = routable_check = True

    def __init__(self, path: Path) -> None:
        self._path = path

    @classmethod
    def from_settings(cls, url: str, options: Mapping[str, Any], *, using: str) -> Self:
        return cls(Path(url))

    def publish(self, page: Sequence[Envelope]) -> list[Outcome]:
        with self._path.open("a") as file:
            file.writelines(f"{each.id}\n" for each in page)
        return [CONFIRMED for _ in page]

    @property
    def address(self) -> str:
        return "a file"

"""Which processes have published lately, as the checkpoints name them."""

from dataclasses import dataclass, field
from datetime import datetime

from relay.models import Checkpoint

LOOKED_AT = 2_000
"""Checkpoints that are looked at, the newest."""
SHOWN = 50


@dataclass(slots=True)
class Process:
    """A process that has published: from its first checkpoint that was looked at to its last."""

    name: str
    relay: str
    first: datetime
    last: datetime
    lanes: set[int] = field(default_factory=set)
    count: int = 0

    @property
    def host(self) -> str:
        return self.name.rpartition(":")[0] or self.name

    @property
    def pid(self) -> str:
        return self.name.rpartition(":")[2] if ":" in self.name else ""


def processes(using: str) -> list[Process]:
    """Return the processes of the newest checkpoints, who was there last first. One statement."""
    newest = Checkpoint.objects.using(using).order_by("-pk")
    columns = newest.values_list("published_by", "relay", "lane", "created", "count")
    found: dict[tuple[str, str], Process] = {}
    for name, relay, lane, created, count in columns[:LOOKED_AT]:
        each = found.setdefault((name, relay), Process(name, relay, created, created))
        each.first = min(each.first, created)
        each.lanes.add(lane)
        each.count += count
    return list(found.values())[:SHOWN]

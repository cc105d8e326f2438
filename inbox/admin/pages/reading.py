"""What the inbox's sections share: the gauges, and what groups remember of their queues."""

from dataclasses import dataclass
from datetime import datetime

from django.db import router
from django.http import HttpRequest

from inbox.handlers.registry import handlers
from inbox.models import Binding, Receipt
from inbox.reports import gauges
from outbox.admin_support.once import once
from outbox.extensions.gauges import Reading

LISTED = 1000
"""Bindings that are looked at, at most."""


@dataclass(slots=True)
class Group:
    """A group of handlers: those in the code, and what it remembers of a queue."""

    name: str
    queue: str = ""
    exchange: str = ""
    handlers: int = 0
    topics: int = 0
    seen: datetime | None = None


def receipts_database() -> str:
    """Return the alias of the database that receipts are written to."""
    return router.db_for_write(Receipt)


def readings(request: HttpRequest, using: str) -> list[Reading]:
    """Return the gauges of the inbox, as metrics have them."""
    return once(request, ("inbox.gauges", using), lambda: list(gauges.read(using)))


def groups() -> list[Group]:
    """Return all groups of handlers, and others that have had a queue. One statement."""
    known = handlers.groups()
    found: dict[tuple[str, str], Group] = {}
    rows = Binding.objects.using(router.db_for_write(Binding)).order_by("group", "queue", "pk")
    for group, queue, exchange, seen, unbound in rows.values_list(
        "group", "queue", "exchange", "seen", "unbound"
    )[:LISTED]:
        each = found.setdefault((group, queue), Group(group, queue, exchange))
        each.topics += unbound is None
        each.seen = max(each.seen or seen, seen)
    for name, members in known.items():
        mine = [each for (group, _), each in found.items() if group == name]
        for each in mine or [found.setdefault((name, ""), Group(name))]:
            each.handlers = len(members)
    return sorted(found.values(), key=lambda each: (each.name, each.queue))

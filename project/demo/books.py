"""Have each service reconcile, with `manage.py reconcile`, and read what that says."""

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from outbox.models import BucketTotal
from project.demo.findings import Book, Books, Loss
from project.demo.processes import ProcessError
from project.demo.services import Services

_BREAKS = 1
"""What the command exits with if a break is open."""


def reconcile(services: Services, *, since: datetime | None = None, repair: bool = False) -> Books:
    """Let all services compare at once what they have sent with what its receivers have had.

    What was compared before is compared again from a time on, if one is given.
    """
    options = ("--repair",) if repair else ()
    if since is not None:
        options = (*options, "--since", since.isoformat())
    said = services.run("reconcile", "--json", *options, allowed=lambda code: code in (0, _BREAKS))
    return tuple(
        book for sender, output in said.items() for book in _books(services, sender, output)
    )


def accept(services: Services, losses: frozenset[Loss], reason: str) -> None:
    """Let their senders accept losses that nothing can mend."""
    for sender in {loss.sender for loss in losses}:
        ids = sorted({loss.message_id for loss in losses if loss.sender == sender})
        services.run("reconcile", "--accept", *ids, "--reason", reason, only=sender)


def _books(services: Services, sender: str, output: str) -> Iterator[Book]:
    for group in _report(sender, output)["groups"]:
        name = group["group"]
        by_state = group["breaks"]
        yield Book(
            sender=sender,
            group=name,
            compared=_compared(services.of(sender), name),
            agrees=group["agrees"],
            breaks={kind: states["open"] for kind, states in by_state.items()},
            repaired=sum(states["repaired"] for states in by_state.values()),
            accepted=sum(states["accepted"] for states in by_state.values()),
            open=frozenset(
                Loss(sender, name, each["kind"], each["message_id"]) for each in group["shown"]
            ),
        )


def _report(sender: str, output: str) -> dict[str, Any]:
    for line in reversed(output.splitlines()):
        if line.startswith('{"groups"'):
            found: dict[str, Any] = json.loads(line)
            return found
    raise ProcessError(f"'manage.py reconcile' of {sender} has not said how it stands:\n{output}")


def _compared(alias: str, group: str) -> int:
    """Return how many messages are in closed buckets: of each bucket its last revision counts."""
    rows = BucketTotal.objects.using(alias).filter(group=group).order_by("revision")
    newest = {
        (start, kind): count for start, kind, count in rows.values_list("start", "type", "count")
    }
    return sum(newest.values())

"""Mend breaks: publish again what is missing there, or accept what differs."""

from collections import defaultdict
from collections.abc import Collection

from outbox.database.clock import database_now
from outbox.exceptions import OutboxError
from outbox.extensions.resending import resending
from outbox.message.requests import address_of
from outbox.models import Break
from outbox.statements.conf import PeerSettings, peers
from outbox.states import BreakKind, BreakState


def repair(numbers: Collection[int], *, by: str, using: str) -> list[int]:
    """Publish open breaks that are missing there again, to that group alone; return which.

    They stay open until the group says that it has them. Raises what a replay raises if that is so
    for the first group; otherwise it ends there.
    """
    rows = Break.objects.using(using).filter(
        pk__in=numbers, state=BreakState.OPEN, kind=BreakKind.MISSING
    )
    by_group: dict[str, dict[str, int]] = defaultdict(dict)
    for row in rows.order_by("start", "pk"):
        by_group[row.group][row.message_id] = row.pk
    done: list[int] = []
    for group, ids in by_group.items():
        relay = peers().get(group, PeerSettings()).RELAY
        try:
            sent = resending().resend(list(ids), topic=address_of(group), relay=relay, using=using)
        except OutboxError:
            if not done:
                raise
            break
        again = [ids[message_id] for message_id in sent]
        Break.objects.using(using).filter(pk__in=again).update(
            replayed_at=database_now(using), by=by
        )
        done += again
    return done


def accept(numbers: Collection[int], *, by: str, using: str, reason: str) -> list[int]:
    """Accept open breaks, for a reason; return which."""
    rows = Break.objects.using(using).filter(pk__in=numbers, state=BreakState.OPEN)
    found = list(rows.values_list("pk", flat=True))
    now = database_now(using)
    rows.update(state=BreakState.ACCEPTED, changed=now, reason=reason, by=by)
    return found

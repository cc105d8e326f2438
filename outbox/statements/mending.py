"""Mend breaks: publish again what is missing there, or accept what differs."""

from collections import defaultdict
from collections.abc import Collection
from datetime import timedelta

from django.db import connections
from django.db.models import Q

from outbox.database.clock import database_now
from outbox.database.transactions import own_transaction
from outbox.exceptions import OutboxError
from outbox.extensions.resending import resending
from outbox.message.requests import address_of
from outbox.models import Break
from outbox.statements.conf import PeerSettings, peers
from outbox.states import BreakKind, BreakState

ARRIVING = timedelta(minutes=1)
"""How long what was published again is under way, and is not published once more."""


def repair(numbers: Collection[int], *, by: str, using: str) -> list[int]:
    """Publish open breaks that are missing there again, to that group alone; return which.

    They stay open until the group says that it has them; what was published again a moment ago is
    left alone. Raises what a replay raises if that is so for the first group; otherwise it ends
    there.
    """
    now = database_now(using)
    rows = Break.objects.using(using).filter(
        Q(replayed_at=None) | Q(replayed_at__lt=now - ARRIVING),
        pk__in=numbers,
        state=BreakState.OPEN,
        kind=BreakKind.MISSING,
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
            if done:  # what was published is to be written down
                return done
            raise
        again = [ids[message_id] for message_id in sent]
        Break.objects.using(using).filter(pk__in=again).update(replayed_at=now, by=by)
        done += again
    return done


def accept(numbers: Collection[int], *, by: str, using: str, reason: str) -> list[int]:
    """Accept open breaks, for a reason; return which.

    What an answer of the group is changing at that moment is left alone.
    """
    with own_transaction(using, durable=False):
        rows = Break.objects.using(using)
        is_open = rows.filter(pk__in=numbers, state=BreakState.OPEN).order_by("pk")
        if connections[using].features.has_select_for_update_skip_locked:
            is_open = is_open.select_for_update(skip_locked=True)
        found = list(is_open.values_list("pk", flat=True))
        rows.filter(pk__in=found).update(
            state=BreakState.ACCEPTED, changed=database_now(using), reason=reason, by=by
        )
    return found

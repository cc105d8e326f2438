"""Take what groups tell. What they say only ever gets better, so order and copies do not matter."""

import logging
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from django.db import connections, transaction

from outbox.database.clock import database_now
from outbox.failpoints import hit
from outbox.message.acknowledgements import Told, read
from outbox.message.cloudevents import bounded
from outbox.message.envelope import Envelope
from outbox.models import Acknowledgement
from outbox.states import REPLACES, Acknowledged, Hold

logger = logging.getLogger("outbox")

AT_ONCE = 500
"""Message ids of one statement."""


def take(event: object, message: Envelope, *, using: str) -> int:
    """Note what a group tells, for messages of which that is waited for; return for how many.

    Whatever else it says is dropped: what we have not sent, groups that nobody asked, what was told
    before. Anybody who may publish to our address may have sent it.
    """
    told = read(event)
    if told is None:
        logger.warning("An acknowledgement of %s cannot be read.", bounded(message.source))
        return 0
    changed = 0
    with transaction.atomic(using=using):
        for what, ids in told.ids.items():
            for start in range(0, len(ids), AT_ONCE):
                part = ids[start : start + AT_ONCE]
                changed += _note(part, told.group, what, bounded(message.source), using)
    hit("outbox.acknowledged")
    if told.unread:
        logger.warning(
            "An acknowledgement of %s, group %s, has %d ids that are none, or too many.",
            bounded(message.source),
            told.group,
            told.unread,
        )
    return changed


def _note(ids: Sequence[UUID], group: str, what: Told, by: str, using: str) -> int:
    rows = Acknowledgement.objects.using(using)
    found = rows.filter(message_id__in=ids, group=group, state__in=REPLACES[what])
    if connections[using].features.has_select_for_update:
        # In one order, so that no two processes wait for each other.
        found = found.select_for_update()
    numbers = list(found.order_by("pk").values_list("pk", "within"))
    if not numbers:
        return 0
    changed, now = [number for number, _ in numbers], database_now(using)
    if what is Told.KEPT:
        # It is there: what is lost from now on is lost anew, and all its resends are before it.
        for within in {each for _, each in numbers}:
            own = [number for number, each in numbers if each == within]
            rows.filter(pk__in=own).update(
                state=Acknowledged.AWAITED,
                hold=Hold.KEPT,
                resends=0,
                due_at=now + timedelta(seconds=within),
            )
        return len(changed)
    return rows.filter(pk__in=changed).update(
        state=Acknowledged(what.value), due_at=None, hold="", told_at=now, told_by=by
    )

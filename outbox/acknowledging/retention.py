"""Forget acknowledgements with the messages that they are of."""

import logging
from datetime import datetime

from outbox.extensions.pruning import register_pruner
from outbox.models import Acknowledgement
from outbox.nouns import counted
from outbox.states import Acknowledged

logger = logging.getLogger("outbox")

OPEN = (Acknowledged.AWAITED, Acknowledged.MISSING)


class Old:
    """Deletes, or only counts, acknowledgements of what was sent before a time: a pruning.Prune.

    Also what was never told: its message is deleted at that age as well, and cannot be sent again.
    """

    def __init__(self, *, delete: bool) -> None:
        self._delete = delete

    def __call__(self, using: str, *, before: datetime, limit: int) -> int:
        rows = Acknowledgement.objects.using(using)
        # Their numbers are in the order of their times, about: one index is enough.
        first = list(rows.order_by("pk").values_list("pk", "sent_at", "state")[:limit])
        old = [(number, state) for number, sent_at, state in first if sent_at < before]
        if old and self._delete:
            if never := sum(state in OPEN for _, state in old):
                logger.warning(
                    "%s never told, and forgotten: OUTBOX['RETENTION'] keeps them no longer.",
                    counted(never, "acknowledgement"),
                )
            rows.filter(pk__in=[number for number, _ in old]).delete()
        return len(old)


def oldest(using: str) -> datetime | None:
    """Return when the first message was sent whose acknowledgements are still known."""
    rows = Acknowledgement.objects.using(using).order_by("pk")
    return rows.values_list("sent_at", flat=True).first()


def register() -> None:
    """Let outbox_prune and the housekeeping reach acknowledgements."""
    register_pruner(
        "acknowledgements",
        Old(delete=True),
        count=Old(delete=False),
        oldest=oldest,
        place=150,  # behind messages and receipts, of which there are more
    )

"""Forget acknowledgements with the messages that they are of."""

import logging
import threading
from dataclasses import dataclass
from datetime import datetime

from outbox.extensions.pruning import BATCH, register_pruner
from outbox.message.ids import time_of
from outbox.models import Acknowledgement
from outbox.nouns import counted
from outbox.states import Acknowledged

logger = logging.getLogger("outbox")

OPEN = (Acknowledged.AWAITED, Acknowledged.MISSING)


@dataclass(slots=True)
class Run:
    """How far the rows have been looked through, so that what is kept is not met again."""

    before: datetime
    number: int = 0


class Old:
    """Deletes, or only counts, acknowledgements of what was sent before a time: a pruning.Prune.

    Also what was never told: its message is deleted at that age as well, and cannot be sent again.
    """

    def __init__(self, *, delete: bool) -> None:
        self._delete = delete
        self._runs = threading.local()

    def __call__(self, using: str, *, before: datetime, limit: int) -> int:
        rows = Acknowledgement.objects.using(using)
        if not self._delete:
            return rows.filter(sent_at__lt=before)[:limit].count()
        run, found = self._run(using, before), 0
        # Numbers are in the order in which messages were emitted, about, and so are their ids; one
        # that was scheduled is sent later, and stays among older ones. So no index is needed.
        columns = rows.order_by("pk").values_list("pk", "message_id", "sent_at", "state")
        while page := list(columns.filter(pk__gt=run.number)[: min(limit, BATCH)]):
            old = [each for each in page if each[2] < before][: limit - found]
            if never := sum(state in OPEN for *_, state in old):
                logger.warning(
                    "%s never told, and forgotten: OUTBOX['RETENTION'] keeps them no longer.",
                    counted(never, "acknowledgement"),
                )
            rows.filter(pk__in=[number for number, *_ in old]).delete()
            found += len(old)
            run.number, message_id, sent_at, _ = old[-1] if found == limit else page[-1]
            emitted = time_of(str(message_id)) or sent_at
            if found == limit or (not old and emitted >= before):
                break
        return found

    def _run(self, using: str, before: datetime) -> Run:
        runs: dict[str, Run] = vars(self._runs).setdefault("by_database", {})
        run = runs.get(using)
        if run is None or run.before != before:
            run = runs[using] = Run(before)
        return run


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

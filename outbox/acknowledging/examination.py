"""What the doctor says of acknowledgements that do not come."""

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta

from outbox.database.clock import database_now
from outbox.extensions.diagnosis import Finding, Level
from outbox.models import Acknowledgement
from outbox.nouns import counted
from outbox.states import Acknowledged, Hold

LATE = timedelta(minutes=15)
"""For how long something may be due: each second a relay looks at what is."""
COUNTED = 1000
"""Rows that are looked at, at most; more are more than that."""


def examine(using: str) -> Iterator[Finding]:
    """Tell of what is missing, by group, and of what is not sent again, by group and reason."""
    rows = Acknowledgement.objects.using(using)
    missing = rows.filter(state=Acknowledged.MISSING).order_by("-pk")
    groups = Counter(missing.values_list("group", flat=True)[: COUNTED + 1])
    more = "at least " if sum(groups.values()) > COUNTED else ""
    for group, count in sorted(groups.items()):
        yield Finding(
            level=Level.WARNING,
            id="outbox.unacknowledged",
            title=f"Group {group!r} does not acknowledge",
            text=(
                f"{more}{counted(count, 'message')} without a word, though sent again as often as "
                "is allowed."
            ),
            hint=(
                "Does it consume from the queue that Acknowledge names, with a relay that sends "
                "what it tells? Then send them again in the admin, or give them up."
            ),
            about=group,
            figures={"missing": count},
        )
    yield from _overdue(using)
    due = rows.filter(due_at__isnull=False).order_by("due_at")
    held = Counter(due.values_list("group", "hold")[:COUNTED])
    among = f"Of the {COUNTED:,} that are due next: " if sum(held.values()) == COUNTED else ""
    for (group, hold), count in sorted(held.items()):
        if hold in ("", Hold.KEPT):
            continue
        yield Finding(
            level=Level.WARNING,
            id="outbox.held",
            title=f"Group {group!r} gets nothing again",
            text=(
                f"{among}{counted(count, 'message')} not acknowledged in time: {WORDS[Hold(hold)]}."
            ),
            hint="Nothing is sent again until that is over; then it goes on by itself.",
            about=f"{group} {hold}",
            figures={"held": count},
        )


def _overdue(using: str) -> Iterator[Finding]:
    """Tell of what was due long ago, by group: no relay looks at it."""
    rows = Acknowledgement.objects.using(using).order_by("due_at")
    overdue = rows.filter(due_at__lt=database_now(using) - LATE).values_list("group", flat=True)
    for group, count in sorted(Counter(overdue[:COUNTED]).items()):
        yield Finding(
            level=Level.WARNING,
            id="outbox.held",
            title=f"Group {group!r} gets nothing again",
            text=(
                f"{counted(count, 'message')} not acknowledged in time, and for "
                f"{LATE.seconds // 60} minutes no relay could do anything about that."
            ),
            hint=(
                "Does a relay run that can address queues, with its broker? Does any event type "
                "still ask to be acknowledged? If none does, give them up."
            ),
            about=f"{group} overdue",
            figures={"overdue": count},
        )


WORDS = {
    Hold.UNPUBLISHED: "the relay has yet to publish them",
    Hold.NO_QUEUE: "its queue does not exist",
    Hold.NO_CONSUMER: "nobody consumes its queue",
    Hold.BACKLOG: "its queue has a backlog",
    Hold.REFUSED: "the broker refuses them",
}

"""What the doctor asks about statements: whether groups answer, and which breaks are open."""

from collections.abc import Iterator
from datetime import timedelta

from django.db.models import Count

from outbox.database.clock import database_now
from outbox.exceptions import ConfigurationError
from outbox.extensions.diagnosis import Finding, Level
from outbox.models import Break, Reconciliation
from outbox.nouns import counted
from outbox.statements.conf import PeerSettings, peers
from outbox.states import BreakKind, BreakState

ROUNDS = 3
"""So many rounds a group may leave unanswered."""
LEAST = timedelta(minutes=1)
HINTS = {
    BreakKind.MISSING: "Publish it again, to this group alone: manage.py reconcile {group} "
    "--repair.",
    BreakKind.UNKNOWN: "Was this database restored to an earlier time, or has another service "
    "this OUTBOX['SOURCE']? Accept it when that is settled: manage.py reconcile --accept ID "
    "--reason TEXT.",
    BreakKind.UNSETTLED: "Look there: the message is retrying, waiting or dead.",
    BreakKind.MEASURE: "Which of the two books is right? The messages are the same on both sides. "
    "Mend the other one, or accept it: manage.py reconcile --accept ID --reason TEXT.",
    BreakKind.TWICE: "Was OUTBOX['SOURCE'] changed, and were messages published again? Look at the "
    "effects there, and accept it: manage.py reconcile --accept ID --reason TEXT.",
}


def examine(using: str) -> Iterator[Finding]:
    """Tell of each group in RECONCILE."""
    try:
        wanted = peers()
    except ConfigurationError:  # which the finding about the settings tells
        return
    for group, peer in wanted.items():
        yield _answers(group, peer, using)
        yield from _breaks(group, using)


def _answers(group: str, peer: PeerSettings, using: str) -> Finding:
    row = Reconciliation.objects.using(using).filter(group=group).first()
    now = database_now(using)
    last = None if row is None else row.answered_at
    limit = max(LEAST, ROUNDS * peer.EVERY + peer.GRACE)
    if last is not None and now - last <= limit:
        ago = (now - last).total_seconds()
        return Finding(
            level=Level.OK,
            id="outbox.statements",
            title=f"Group {group!r} answers",
            text=f"It has answered a statement {ago:.0f} s ago.",
            figures={"answered": round(ago, 3)},
            about=group,
            page=f"reconciliation/{group}/",
        )
    how = "has never answered" if last is None else f"has not answered since {last:%Y-%m-%d %H:%M}"
    return Finding(
        level=Level.WARNING,
        id="outbox.statements",
        title=f"Group {group!r} does not answer",
        text=f"It {how}, so nobody knows whether it has what was sent to it.",
        hint="Do a relay and a consumer run on both sides, and is INBOX['STATEMENTS'] on there? "
        f"Then: manage.py reconcile {group}.",
        about=group,
        page=f"reconciliation/{group}/",
    )


def _breaks(group: str, using: str) -> Iterator[Finding]:
    rows = Break.objects.using(using).filter(group=group, state=BreakState.OPEN)
    for kind, count in rows.values_list("kind").annotate(count=Count("pk")).order_by("kind"):
        yield Finding(
            level=Level.WARNING,
            id="outbox.breaks",
            title=f"Open breaks with group {group!r}: {BreakKind(kind).name.lower()}",
            text=f"{counted(count, 'message')}; manage.py reconcile {group} names them.",
            hint=HINTS[BreakKind(kind)].format(group=group),
            figures={"count": count},
            about=f"{group} {kind}",
            page=f"reconciliation/{group}/",
        )

"""manage.py reconcile: compare what was sent to a group with what it has had."""

import argparse
import json
import time
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db.models import Sum

from outbox.database.clock import database_now
from outbox.database.freshness import refresh
from outbox.database.instants import utc
from outbox.database.transactions import own_transaction
from outbox.exceptions import OutboxError
from outbox.flow.labels import printable
from outbox.models import Break, BucketTotal, GroupTopic, Reconciliation, ToState
from outbox.nouns import counted
from outbox.producer.writing import write_database
from outbox.runtime.arguments import (
    WRONG_USAGE,
    command_error,
    database_alias,
    database_errors_explained,
    seconds,
)
from outbox.runtime.shutdown import Shutdown
from outbox.statement_models import MAX_REASON
from outbox.statements.buckets import milliseconds, moment
from outbox.statements.conf import PeerSettings, peers
from outbox.statements.exchange import ask_since, run_round
from outbox.statements.looking import LONGEST_CONFIRM
from outbox.statements.measures import in_words
from outbox.statements.mending import accept, repair
from outbox.statements.sender import Expected, again, close, locked
from outbox.states import BreakKind, BreakState

SHOWN = 50
"""Breaks of a group that are printed one by one, the oldest first."""
ROUNDS = 20
"""Rounds that one call runs at most."""
AT_ONCE = 500
"""Breaks that are repaired at once."""
LOOK_EVERY = 0.2


class Command(BaseCommand):
    help = (
        "Compare what was sent to the groups in RECONCILE with what they have had, and print what "
        "differs. Asks them by messages, so a relay and a consumer have to run on both sides. "
        "Exits 1 if a break is open, or if a group does not answer."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("groups", nargs="*", metavar="GROUP", help="by default all")
        parser.add_argument(
            "--since",
            type=_time,
            metavar="ISO",
            help="look again at all from this time on, such as 2026-11-24T09:00 or 2026-11-24",
        )
        parser.add_argument(
            "--repair",
            action="store_true",
            help="publish again what is missing there, to that group alone",
        )
        parser.add_argument(
            "--accept",
            nargs="+",
            metavar="ID",
            help="accept the open breaks of these messages, instead of comparing",
        )
        parser.add_argument("--reason", default="", help="why they are accepted")
        parser.add_argument(
            "--local",
            action="store_true",
            help="close buckets and print the totals of this side; ask nobody",
        )
        parser.add_argument(
            "--wait",
            type=seconds,
            default=60.0,
            metavar="SECONDS",
            help="how long to wait for answers (%(default)s)",
        )
        parser.add_argument("--json", action="store_true", help="print one JSON object")
        parser.add_argument(
            "--database", type=database_alias, metavar="ALIAS", help="by default as the routers say"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        using = options["database"] or write_database()
        with database_errors_explained("consume", using), Shutdown() as shutdown:
            shutdown.install()
            try:
                self._handle(using, shutdown, options)
            except OutboxError as exc:
                raise command_error(exc) from exc

    def _handle(self, using: str, shutdown: Shutdown, options: dict[str, Any]) -> None:
        wanted = _chosen(options["groups"])
        if options["accept"]:
            self._accept(wanted, using, options)
            return
        if options["local"]:
            for group, peer in wanted.items():
                _close(group, peer, using)
            reports = [_local(group, using) for group in wanted]
            self._print(reports, options, _local_lines)
            return
        ends = time.monotonic() + options["wait"]
        reports = []
        for group, peer in wanted.items():
            run = _Run(group, peer, using, shutdown, ends)
            run.run(options["since"], repairs=options["repair"])
            reports.append(_report(group, using, run.until))
        self._print(reports, options, _lines)
        if not all(each["agrees"] for each in reports):
            raise SystemExit(1)

    def _accept(self, wanted: Iterable[str], using: str, options: dict[str, Any]) -> None:
        if not options["reason"].strip():
            raise CommandError("Say why: --reason TEXT.", returncode=WRONG_USAGE)
        rows = Break.objects.using(using).filter(
            group__in=list(wanted), message_id__in=options["accept"], state=BreakState.OPEN
        )
        numbers = list(rows.values_list("pk", flat=True))
        reason = options["reason"].strip()[:MAX_REASON]
        done = accept(numbers, by="manage.py reconcile", using=using, reason=reason)
        if not done:
            raise CommandError("No break of these messages is open.")
        self.stdout.write(f"{counted(len(done), 'break')} accepted.")

    def _print(self, reports: Sequence[dict[str, Any]], options: Any, lines: Any) -> None:
        if options["json"]:
            self.stdout.write(json.dumps({"groups": list(reports)}))
            return
        for report in reports:
            for line in lines(report):
                self.stdout.write(printable(line))


class _Run:
    """Rounds with one group, until nothing is under way and nothing more can be mended."""

    def __init__(
        self, group: str, peer: PeerSettings, using: str, shutdown: Shutdown, ends: float
    ) -> None:
        self._group = group
        self._peer = peer
        self._using = using
        self._shutdown = shutdown
        self._ends = ends
        self.until = 0
        """Until when answers were waited for, in milliseconds since 1970."""

    def run(self, since: datetime | None, *, repairs: bool) -> None:
        if not GroupTopic.objects.using(self._using).filter(group=self._group).exists():
            self._round()  # asks for the topics
            if not self._answered():
                return
        if since is not None:
            with own_transaction(self._using):
                ask_since(self._group, self._peer, max(0, milliseconds(since)), self._using)
        with own_transaction(self._using):
            again(self._group, self._using, after=timedelta(0))  # it may be lost, and we wait
        repaired: set[int] = set()
        for _ in range(ROUNDS):
            self._round()
            if not self._answered():
                return
            if self._count(BreakState.IN_TRANSIT) and self._pause():
                continue
            if not repairs or not (done := self._repair(repaired)):
                return
            repaired |= done

    def _round(self) -> None:
        """Run a round, and others behind it while there is more to close."""
        more = True
        while more and not self._shutdown.requested:
            with own_transaction(self._using):
                more = run_round(self._group, self._peer, self._using)

    def _answered(self) -> bool:
        """Wait until all is answered; False if that takes too long, or a stop is requested.

        All until now: consumers go on to ask, with each bucket that is closed.
        """
        rows = ToState.objects.using(self._using).filter(group=self._group)
        row = Reconciliation.objects.using(self._using).get(group=self._group)
        self.until = row.stated
        while rows.filter(until__lte=self.until).exists():
            if self._shutdown.requested or time.monotonic() > self._ends:
                return False
            self._shutdown.wait(LOOK_EVERY)
            refresh(self._using)
        return True

    def _pause(self) -> bool:
        """Let what is under way arrive; False if there is no time for that."""
        confirm = min(self._peer.GRACE, LONGEST_CONFIRM) + timedelta(milliseconds=100)
        pause = confirm.total_seconds()
        if self._shutdown.requested or time.monotonic() + pause > self._ends:
            return False
        self._shutdown.wait(pause)
        return True

    def _repair(self, before: set[int]) -> set[int]:
        rows = Break.objects.using(self._using).filter(
            group=self._group, state=BreakState.OPEN, kind=BreakKind.MISSING
        )
        numbers = [pk for pk in rows.values_list("pk", flat=True) if pk not in before]
        done: set[int] = set()
        for start in range(0, len(numbers), AT_ONCE):
            part = numbers[start : start + AT_ONCE]
            done |= set(repair(part, by="manage.py reconcile", using=self._using))
        return done

    def _count(self, state: BreakState) -> int:
        return Break.objects.using(self._using).filter(group=self._group, state=state).count()


def _chosen(groups: Sequence[str]) -> dict[str, PeerSettings]:
    known = peers()
    if not known:
        raise CommandError("RECONCILE is not set: say which groups to compare with.")
    for group in groups:
        if group not in known:
            raise CommandError(
                f"There is no group {group!r} in RECONCILE. Groups: {', '.join(sorted(known))}.",
                returncode=WRONG_USAGE,
            )
    return {group: known[group] for group in groups or sorted(known)}


def _close(group: str, peer: PeerSettings, using: str) -> None:
    more = True
    while more:
        with own_transaction(using):
            row = locked(group, peer, using)
            more = close(row, Expected.of(row, peer, using)).more


def _local(group: str, using: str) -> dict[str, Any]:
    """Return the totals of this side, by type: of each bucket its last revision counts."""
    row = Reconciliation.objects.using(using).get(group=group)
    rows = BucketTotal.objects.using(using).filter(group=group)
    later = rows.filter(revision__gt=1).values_list("start", "type", "revision", "count")
    found: dict[str, dict[str, int]] = {}
    first = rows.filter(revision=1).order_by("type").values_list("type")
    for kind, count in first.annotate(total=Sum("count")):
        buckets = rows.filter(type=kind, revision=1).count()
        found[kind] = {"messages": count, "buckets": buckets, "revised": 0}
    revised = {(start, kind): count for start, kind, _, count in later.order_by("revision")}
    for (start, kind), count in revised.items():
        before = rows.filter(start=start, type=kind, revision=1).values_list("count", flat=True)
        found[kind]["messages"] += count - sum(before)
        found[kind]["revised"] += 1
    return {"group": group, "closed": moment(row.closed).isoformat(), "types": found}


def _local_lines(report: dict[str, Any]) -> Iterable[str]:
    yield f"{report['group']}: closed until {report['closed']}"
    for kind, each in report["types"].items():
        yield (
            f"  {kind}  {counted(each['messages'], 'message')} in "
            f"{counted(each['buckets'], 'bucket')}, {each['revised']:,} revised"
        )


def _report(group: str, using: str, until: int) -> dict[str, Any]:
    """Return how this service stands with a group, as far as it was compared."""
    row = Reconciliation.objects.using(using).get(group=group)
    breaks = Break.objects.using(using).filter(group=group)
    counts = {
        kind.value: {
            state.value: breaks.filter(kind=kind, state=state).count() for state in BreakState
        }
        for kind in BreakKind
    }
    unanswered = ToState.objects.using(using).filter(group=group, until__lte=until).count()
    is_open = breaks.filter(state=BreakState.OPEN)
    shown = is_open.order_by("start", "pk")[:SHOWN]
    open_count = is_open.count()
    return {
        "group": group,
        "compared_until": moment(until).isoformat(),
        "answered_at": row.answered_at and row.answered_at.isoformat(),
        "unanswered": unanswered,
        "open": open_count,
        "agrees": not open_count and not unanswered and row.answered_at is not None,
        "breaks": counts,
        "shown": [
            {
                "kind": each.kind,
                "message_id": each.message_id,
                "type": each.type,
                "time": moment(each.start).isoformat(),
                "there": each.there,
                "figures": each.figures,
                "found": each.found.isoformat(),
            }
            for each in shown
        ],
        "at": database_now(using).isoformat(),
    }


def _lines(report: dict[str, Any]) -> Iterable[str]:
    yield f"{report['group']}: compared until {report['compared_until']}"
    if report["unanswered"] or report["answered_at"] is None:
        yield (
            f"  {counted(report['unanswered'], 'statement')} not answered. Do a relay and a "
            "consumer run on both sides, and is INBOX['STATEMENTS'] on there?"
        )
    states = list(BreakState)
    head = "".join(f"{state.value:>12}" for state in states)
    yield f"  {'':<12}{head}"
    for kind, by_state in report["breaks"].items():
        numbers = "".join(f"{by_state[state.value]:>12,}" for state in states)
        yield f"  {kind:<12}{numbers}"
    for each in report["shown"]:
        there = f"  {each['there']}" if each["there"] else ""
        if each["figures"]:
            there = f"  {in_words(each['figures'])}"
        yield f"  {each['kind']}  {each['type']}  {each['message_id']}  {each['time']}{there}"
    if report["open"] > len(report["shown"]):
        yield f"  and {report['open'] - len(report['shown']):,} more"


def _time(text: str) -> datetime:
    try:
        return utc(datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a time as ISO 8601 has it: 2026-11-24T09:00+00:00"
        ) from None

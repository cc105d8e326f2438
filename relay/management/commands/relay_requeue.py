"""manage.py relay_requeue: try parked messages again now, or give them up for good."""

import argparse
import getpass
import json
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError
from django.db.models import Count, QuerySet

from outbox.nouns import counted
from outbox.producer.writing import write_database
from outbox.runtime.arguments import (
    WRONG_USAGE,
    add_filter,
    database_alias,
    database_errors_explained,
    selection_of,
)
from relay.conf import relay_settings
from relay.models import Parked
from relay.parking.blocking import heads
from relay.parking.people import discard, requeue, restore
from relay.parking.store import open_rows
from relay.states import TRANSITIONS, ParkedState, Verb

TOLD = 10
"""Kinds of messages that are told when none was found."""

DONE = {Verb.REQUEUE: "requeued", Verb.DISCARD: "discarded", Verb.RESTORE: "restored"}

FILTERS = {"relay": "relay", "key": "key", "type": "type", "topic": "topic", "reason": "reason"}


class Command(BaseCommand):
    help = (
        "Try parked and dead messages again at once, each key in order from its first; or, with "
        "--discard, never publish them and let what waits behind them go on; or, with --restore, "
        "make dead again what was discarded, until it is requeued. The running relay does the "
        "publishing. Exits 1 if nothing of what is chosen is parked; 2 if nothing is chosen."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--id", action="append", type=_message_id, metavar="MESSAGE_ID", help="repeatable"
        )
        for name in FILTERS:
            parser.add_argument(f"--{name}", help=f"only messages of this {name}")
        parser.add_argument("--state", choices=["parked", "waiting", "dead"])
        add_filter(parser)
        parser.add_argument("--all", action="store_true", help="needed if nothing else is given")
        instead = parser.add_mutually_exclusive_group()
        instead.add_argument("--discard", action="store_true", help="give them up instead")
        instead.add_argument(
            "--restore", action="store_true", help="make dead again what was discarded"
        )
        parser.add_argument("--dry-run", action="store_true", help="only count")
        parser.add_argument("--json", action="store_true")
        parser.add_argument(
            "--database", type=database_alias, metavar="ALIAS", help="by default as the routers say"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        with database_errors_explained():
            self._work(options)

    def _work(self, options: dict[str, Any]) -> None:
        rows = self._chosen(options)
        verb = Verb.REQUEUE
        if options["discard"]:
            verb = Verb.DISCARD
        elif options["restore"]:
            verb = Verb.RESTORE
        # Where all are asked for, none is no mistake.
        amiss = [] if _everything(options) else _amiss(rows, verb, options["id"] or [])
        if options["dry_run"]:
            count = rows.filter(state__in=TRANSITIONS[verb].sources).count()
        elif verb is Verb.DISCARD:
            count = len(discard(rows, by=f"{getpass.getuser()} (relay_requeue)"))
        elif verb is Verb.RESTORE:
            count = len(restore(rows))
        else:
            count = len(requeue(rows))
        self._report(count, verb, options)
        if amiss:
            raise CommandError("\n".join(amiss))

    def _chosen(self, options: dict[str, Any]) -> QuerySet[Parked]:
        given = {FILTERS[name]: options[name] for name in FILTERS if options[name] is not None}
        if options["id"]:
            given["message_id__in"] = options["id"]
        if options["state"]:
            given["state"] = options["state"]
        if not given and not options["all"] and not options["filter"]:
            raise CommandError(
                "Which messages? Choose some, or all of them with --all.", returncode=WRONG_USAGE
            )
        rows = Parked.objects.using(options["database"] or write_database())
        _check_relay(options["relay"], rows)
        return selection_of(Parked, options["filter"], rows.db).of(rows.filter(**given))

    def _report(self, count: int, verb: Verb, options: dict[str, Any]) -> None:
        if options["json"]:
            self.stdout.write(
                json.dumps({"verb": verb, "messages": count, "dry_run": options["dry_run"]})
            )
        else:
            would = " would be" if options["dry_run"] else ""
            self.stdout.write(f"{counted(count, 'message')}{would} {DONE[verb]}")


def _everything(options: dict[str, Any]) -> bool:
    """Tell whether all is asked for, without any other condition."""
    others = ("id", "state", "filter", *FILTERS)
    return bool(options["all"]) and not any(options[name] for name in others)


def _check_relay(name: str | None, rows: QuerySet[Parked]) -> None:
    """Raise CommandError for a relay that nobody knows: a typing mistake."""
    relays = relay_settings()
    if name is not None and name not in relays and not rows.filter(relay=name).exists():
        known = ", ".join(sorted(relays)) or "none"
        raise CommandError(
            f"No relay {name!r} in RELAYS, and nothing of it is parked. RELAYS: {known}.",
            returncode=WRONG_USAGE,
        )


def _amiss(rows: QuerySet[Parked], verb: Verb, ids: list[UUID]) -> list[str]:
    """Return sentences for ids of which nothing is chosen, or for a choice of nothing."""
    sources = TRANSITIONS[verb].sources
    found: dict[UUID, list[Parked]] = {each: [] for each in ids}
    for row in Parked.objects.using(rows.db).filter(message_id__in=ids).order_by("position"):
        found[row.message_id].append(row)
    chosen = set(rows.filter(state__in=sources).values_list("message_id", flat=True)) & set(ids)
    amiss = [f"{each} {_why_not(found[each], rows.db)}" for each in ids if each not in chosen]
    if amiss or rows.filter(state__in=sources).exists():
        return amiss
    waiting = list(rows.filter(state=ParkedState.WAITING).order_by("position")[:TOLD])
    firsts = {head.pk: head for head in heads(waiting, rows.db).values()}
    if firsts:
        told = ", ".join(f"{each.message_id} ({each.state})" for each in firsts.values())
        return [f"What is chosen waits behind others, and goes on when these are settled: {told}."]
    columns = ("state", "relay", "reason", "topic")
    counts = open_rows(rows.db).values_list(*columns).annotate(count=Count("pk"))
    kinds = [
        f"{count} {state} of relay {relay!r} ({reason}, topic {topic})"
        for state, relay, reason, topic, count in counts.order_by("-count", *columns)[:TOLD]
    ]
    there = f"There is: {', '.join(kinds)}." if kinds else "Nothing is parked at all."
    return [f"There is no such parked message. {there}"]


def _why_not(rows: list[Parked], using: str) -> str:
    if not rows:
        return "is not parked, and never was."
    first = heads(rows, using)
    told = [
        f"{row.state}{f' behind {first[row.pk].message_id}' if row.pk in first else ''} "
        f"with relay {row.relay!r}"
        for row in rows
    ]
    return f"is not chosen: it is {', '.join(told)}."


def _message_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a message id") from None

"""manage.py relay_requeue: try parked messages again now, or give them up for good."""

import argparse
import getpass
import json
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError
from django.db.models import QuerySet

from outbox.commands import database_alias, database_errors_explained
from outbox.emitting import write_database
from relay.models import Parked
from relay.parked import TRANSITIONS, Verb
from relay.parking import discard, requeue

FILTERS = {"relay": "relay", "key": "key", "type": "type", "topic": "topic", "reason": "reason"}


class Command(BaseCommand):
    help = (
        "Try parked and dead messages again at once, each key in order from its first; or, with "
        "--discard, never publish them and let what waits behind them go on. The running relay "
        "does the publishing. Exits 1 if no message was chosen."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--id", action="append", type=_message_id, metavar="MESSAGE_ID", help="repeatable"
        )
        for name in FILTERS:
            parser.add_argument(f"--{name}", help=f"only messages of this {name}")
        parser.add_argument("--state", choices=["parked", "waiting", "dead"])
        parser.add_argument("--all", action="store_true", help="needed if nothing else is given")
        parser.add_argument("--discard", action="store_true", help="give them up instead")
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
        verb = Verb.DISCARD if options["discard"] else Verb.REQUEUE
        if options["dry_run"]:
            count = rows.filter(state__in=TRANSITIONS[verb].sources).count()
        elif verb is Verb.DISCARD:
            count = len(discard(rows, by=f"{getpass.getuser()} (relay_requeue)"))
        else:
            count = len(requeue(rows))
        self._report(count, verb, options)
        if not count:
            raise CommandError("There is no such parked message.", returncode=1)

    def _chosen(self, options: dict[str, Any]) -> QuerySet[Parked]:
        given = {FILTERS[name]: options[name] for name in FILTERS if options[name] is not None}
        if options["id"]:
            given["message_id__in"] = options["id"]
        if options["state"]:
            given["state"] = options["state"]
        if not given and not options["all"]:
            raise CommandError("Which messages? Choose some, or all of them with --all.")
        return Parked.objects.using(options["database"] or write_database()).filter(**given)

    def _report(self, count: int, verb: Verb, options: dict[str, Any]) -> None:
        if options["json"]:
            self.stdout.write(
                json.dumps({"verb": verb, "messages": count, "dry_run": options["dry_run"]})
            )
        else:
            would = "would be " if options["dry_run"] else ""
            done = "discarded" if verb is Verb.DISCARD else "requeued"
            self.stdout.write(f"{count} messages {would}{done}")


def _message_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a message id") from None

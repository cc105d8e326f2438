"""manage.py inbox_bindings: what groups remember of their queues."""

import argparse
import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import router
from django.db.models import QuerySet

from inbox.handlers.registry import handlers
from inbox.models import Binding
from inbox.sources.amqp.topology import queue_name
from inbox.sources.bindings import as_text
from outbox.nouns import counted
from outbox.runtime.arguments import WRONG_USAGE, database_alias, database_errors_explained


class Command(BaseCommand):
    help = (
        "Show what the queues of all groups are bound to, and of which events some may be missing. "
        "With --replayed that has been looked after: the doctor tells of it no more. With --forget "
        "a group that has no handlers any more is forgotten, or the former queues of one that has."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--group", metavar="NAME", help="only those of a group")
        what = parser.add_mutually_exclusive_group()
        what.add_argument(
            "--replayed",
            action="store_true",
            help="note that what was missing has been published again, or is not wanted",
        )
        what.add_argument(
            "--forget",
            metavar="GROUP",
            help="delete what a group remembers that has no handlers any more; of one that has, "
            "what it remembers of queues that are not its own any more",
        )
        parser.add_argument("--json", action="store_true", help="print one JSON object a line")
        parser.add_argument(
            "--database", type=database_alias, metavar="ALIAS", help="by default as the routers say"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        using = options["database"] or router.db_for_write(Binding)
        changes = options["replayed"] or options["forget"] is not None
        with database_errors_explained("person" if changes else "look", using):
            for name in ("group", "forget"):
                _check_known(options[name], using)
            found = Binding.objects.using(using).order_by("group", "queue", "exchange", "topic")
            if options["group"] is not None:
                found = found.filter(group=options["group"])
            if options["forget"] is not None:
                self._forget(options["forget"], using, options["json"])
            elif options["replayed"]:
                self._replayed(found, options["json"])
            else:
                for each in found:
                    self.stdout.write(_json(each) if options["json"] else _line(each))

    def _replayed(self, found: QuerySet[Binding], as_json: bool) -> None:
        # What is not declared yet is still missing.
        count = found.filter(missing_since__isnull=False, declared__isnull=False).update(
            missing_since=None, lost=False
        )
        self.stdout.write(
            json.dumps({"replayed": count})
            if as_json
            else f"Noted: what {counted(count, 'binding', 'bindings')} had missed is looked after."
        )

    def _forget(self, group: str, using: str, as_json: bool) -> None:
        found = Binding.objects.using(using).filter(group=group)
        if group in handlers.groups():
            found = found.exclude(queue=queue_name(group))
            if not found.exists():
                raise CommandError(
                    f"Group {group!r} has handlers: its consumers would remember it again, and not "
                    "what they may have missed. Remove the handlers first."
                )
        count, _ = found.delete()
        self.stdout.write(
            json.dumps({"forgotten": count})
            if as_json
            else f"{counted(count, 'binding is', 'bindings are')} forgotten."
        )


def _check_known(group: str | None, using: str) -> None:
    """Raise CommandError for a group of which nothing is remembered: a typing mistake."""
    names = Binding.objects.using(using).values_list("group", flat=True).distinct()
    if group is not None and group not in {*names, *handlers.groups()}:
        known = ", ".join(sorted({*names, *handlers.groups()})) or "none"
        raise CommandError(f"There is no group {group!r}. Groups: {known}.", returncode=WRONG_USAGE)


def _line(each: Binding) -> str:
    since = f"declared {as_text(each.declared)}" if each.declared else "not declared"
    if each.unbound:
        since = f"unbound {as_text(each.unbound)}"
    line = f"{each.group}: {each.topic} of {each.exchange} to {each.queue}, {since}"
    if each.missing_since:
        line += f", may have missed events since {as_text(each.missing_since)}"
    return f"{line}, seen {as_text(each.seen)}"


def _json(each: Binding) -> str:
    names = ("declared", "seen", "wanted", "unbound", "missing_since")
    times = {name: getattr(each, name) for name in names}
    return json.dumps(
        {
            "group": each.group,
            "queue": each.queue,
            "exchange": each.exchange,
            "topic": each.topic,
            **{name: moment.isoformat() if moment else None for name, moment in times.items()},
            "lost": each.lost,
        }
    )

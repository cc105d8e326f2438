"""manage.py failures: show what fails, in groups of what fails alike."""

import argparse
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand

from outbox.extensions.failures import LIMIT, FailureSource, sources
from outbox.failures.grouping import Found, Group, find
from outbox.failures.notes import notes
from outbox.failures.telling import as_data, said
from outbox.flow.labels import printable, when
from outbox.models import FailureNote
from outbox.nouns import counted
from outbox.producer.writing import write_database
from outbox.runtime.arguments import amount, database_alias, database_errors_explained


class Command(BaseCommand):
    help = (
        "Show what fails, in groups of what fails alike: receipts, dead letters and parked "
        "messages, by handler, group or relay, exception class and place in the code. Those that "
        "have failed last come first. Changes nothing."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--kind",
            action="append",
            choices=[source.name for source in sources()],
            help="only these; repeatable",
        )
        parser.add_argument(
            "--limit",
            type=amount,
            default=LIMIT,
            metavar="N",
            help="rows of each state to read at most (%(default)s)",
        )
        parser.add_argument("--json", action="store_true", help="print one JSON object")
        parser.add_argument(
            "--database", type=database_alias, metavar="ALIAS", help="by default as the routers say"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        chosen = [each for each in sources() if each.name in (options["kind"] or (each.name,))]
        with database_errors_explained("look", options["database"] or write_database()):
            found = [
                (each, find(each, options["database"] or each.database(), options["limit"]))
                for each in chosen
            ]
            names = [group.fingerprint for _, each in found for group in each.groups]
            written = notes(names, options["database"] or write_database())
        if options["json"]:
            shown = {source.name: _as_json(each, written) for source, each in found}
            self.stdout.write(json.dumps(shown, default=_instant))
            return
        for source, each in found:
            self._show(source, each, written)

    def _show(
        self, source: FailureSource, found: Found, written: Mapping[str, FailureNote]
    ) -> None:
        if not found.groups:
            self.stdout.write(f"{source.title}: {source.empty}")
            return
        more = ", of the newest rows; there are more" if found.cut else ""
        self.stdout.write(f"{source.title}: {counted(len(found.groups), 'group')}{more}")
        for group in found.groups:
            states = ", ".join(f"{count:,} {state}" for state, count in _states(group))
            about = "≈ " if group.estimated else ""
            lines = [
                f"  {group.newest.by}  {group.newest.error_class}  {said(group)}",
                f"    {about}{states}  {when(group.first)} to {when(group.last)}",
            ]
            if group.frame is not None:
                lines.append(f"    {group.frame}")
            if note := written.get(group.fingerprint):
                lines.append(f"    Note: {note.text}")
            for line in lines:
                self.stdout.write(printable(line))


def _as_json(found: Found, written: Mapping[str, FailureNote]) -> dict[str, Any]:
    return {
        "sample": found.cut,
        "groups": [as_data(group, written.get(group.fingerprint)) for group in found.groups],
    }


def _states(group: Group) -> list[tuple[str, int]]:
    return sorted(group.states.items())


def _instant(value: object) -> str:
    assert isinstance(value, datetime)
    return value.isoformat()

"""manage.py relay_status: how far each relay is in each lane."""

import argparse
import dataclasses
import json
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from outbox.admin_support.html import DASH, span
from outbox.exceptions import OutboxError
from outbox.flow.labels import printable
from outbox.producer.writing import write_database
from outbox.runtime.arguments import (
    WRONG_USAGE,
    command_error,
    database_alias,
    database_errors_explained,
)
from relay.conf import relay_settings
from relay.log.soundness import flaws
from relay.parking.blocking import Head, longest
from relay.reports import status as statuses
from relay.reports.masking import error_of
from relay.reports.status import LaneStatus, lanes

HEADINGS = (
    "relay",
    "lane",
    "pending",
    "oldest",
    "parked",
    "dead",
    "per second",
    "last checkpoint",
    "note",
)


class Command(BaseCommand):
    help = (
        "Show for each relay and lane what is pending, for how long, the rate of the last minute "
        "and the age of the last checkpoint. Exits 1 if something stands in the way."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--relay", metavar="NAME", help="only this one")
        parser.add_argument(
            "--database",
            type=database_alias,
            metavar="ALIAS",
            help="whose outbox, by default as the routers say",
        )
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        with database_errors_explained("look"):
            self._show(options)

    def _show(self, options: dict[str, Any]) -> None:
        name = options["relay"]
        try:
            using = options["database"] or write_database()
            found = lanes(using, name)
            held = longest(using, name)
        except OutboxError as exc:
            raise command_error(exc) from exc
        if name is not None and not found:
            known = ", ".join(sorted(relay_settings())) or "none"
            raise CommandError(
                f"No relay {name!r} in RELAYS, nor in checkpoints. RELAYS: {known}.",
                returncode=WRONG_USAGE,
            )
        if not found:
            raise CommandError("There is no relay: RELAYS is empty, and none has ever run.")
        if options["json"]:
            rows = [dataclasses.asdict(each) | {"in_the_way": each.in_the_way} for each in found]
            told = {"counted_to": statuses.COUNTED, "lanes": rows, "heads": list(map(_head, held))}
            self.stdout.write(json.dumps(told))
        else:
            self._table([HEADINGS, *map(_row, found)])
            for head in held:
                line = f"{head.row.relay} lane {head.row.lane}: {head}"
                self.stdout.write(printable(line))
        if unsound := flaws(using):
            what = " ".join(flaw.text for flaw in unsound)
            raise CommandError(f"The log cannot be read as it stands. {what} Ask: manage.py doctor")
        if stopped := [each for each in found if each.in_the_way]:
            where = "; ".join(f"{s.relay} lane {s.lane}: {s.in_the_way}" for s in stopped)
            raise CommandError(f"Something stands in the way. {where}. Ask: manage.py doctor")

    def _table(self, rows: list[tuple[str, ...]]) -> None:
        widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
        for row in rows:
            cells = zip(row, widths, strict=True)
            self.stdout.write("  ".join(cell.ljust(width) for cell, width in cells).rstrip())


def _head(head: Head) -> dict[str, Any]:
    names = ("relay", "lane", "key", "state", "reason", "error", "type")
    about = {name: getattr(head.row, name) for name in names}
    about["error"] = error_of(head.row)
    return about | {"message_id": str(head.row.message_id), "waiting": head.waiting}


def _row(status: LaneStatus) -> tuple[str, ...]:
    pending = "?" if status.backlog is None else f"{status.backlog:,}"
    return (
        status.relay,
        str(status.lane),
        f"{pending}+" if status.more else pending,
        _age(status.oldest_pending),
        f"{status.parked + status.waiting:,}",
        f"{status.dead:,}",
        f"{status.rate:,}",
        _age(status.last_checkpoint),
        status.in_the_way if status.configured else "only in checkpoints",
    )


def _age(seconds: float | None) -> str:
    return DASH if seconds is None else span(timedelta(seconds=seconds))

"""manage.py outbox_prune: delete what retention no longer keeps."""

import argparse
import json
import re
import time
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand

from outbox.exceptions import OutboxError
from outbox.extensions.pruning import ALL, BATCH, Pruner, cutoff, prune_batch, pruners, retention
from outbox.models import Message
from outbox.producer.writing import write_database
from outbox.runtime.arguments import (
    amount,
    command_error,
    database_alias,
    database_errors_explained,
)
from outbox.runtime.shutdown import Shutdown

_UNITS = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds"}
_LENGTH = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)([dhms]?)")


class Command(BaseCommand):
    help = (
        "Delete messages that every relay has published, and checkpoints, that are older than "
        "OUTBOX['RETENTION'], and receipts older than INBOX['RETENTION'], in batches, beside live "
        "traffic. Never what is owed, parked or dead. SIGTERM ends it after the batch, with 0."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--older-than",
            type=_length,
            metavar="7d",
            help="another age than OUTBOX['RETENTION']: a number with d, h, m or s; days without",
        )
        parser.add_argument(
            "--database",
            type=database_alias,
            metavar="ALIAS",
            help="where, by default as the routers say",
        )
        parser.add_argument(
            "--batch", type=amount, default=BATCH, metavar="N", help="rows at once (%(default)s)"
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="count what would be deleted, delete nothing"
        )
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        with database_errors_explained("prune"):
            self._work(options)

    def _work(self, options: dict[str, Any]) -> None:
        given: timedelta | None = options["older_than"]
        found: dict[str, int | None] = {}
        started = time.monotonic()
        with Shutdown() as shutdown:
            shutdown.install()
            for pruner in pruners():
                try:
                    keep = pruner.window() if given is None else given
                    if keep is not None:
                        found[pruner.name] = self._prune(pruner, keep, shutdown, options)
                except OutboxError as exc:
                    raise command_error(exc) from exc
            stopped = shutdown.requested
        self._report(found, given, stopped, time.monotonic() - started, options)
        if not (stopped or options["dry_run"]) and not found.get("messages", True):
            self._tell_owed(options["database"] or write_database(), given or retention(), options)

    def _tell_owed(self, using: str, keep: timedelta | None, options: dict[str, Any]) -> None:
        """Say why no message was deleted, if there are old ones."""
        oldest = Message.objects.using(using).order_by("position").values_list("time", flat=True)
        first = oldest.first()
        if first is None or keep is None or first >= cutoff(using, keep) or options["json"]:
            return
        self.stdout.write(
            f"The oldest message is of {first.isoformat(timespec='seconds')}, and stays: a relay "
            "of RELAYS has yet to publish it, or has parked it. Which one: manage.py relay_status"
        )

    @staticmethod
    def _prune(
        pruner: Pruner, keep: timedelta, shutdown: Shutdown, options: dict[str, Any]
    ) -> int | None:
        using = options["database"] or pruner.database()
        act = pruner.count if options["dry_run"] else pruner.prune
        if act is None:
            return None
        batch = ALL if options["dry_run"] else options["batch"]
        before, total = cutoff(using, keep), 0
        while not shutdown.requested:
            count = prune_batch(act, using, before=before, limit=batch) or 0
            total += count
            if count < batch:
                break
        return total

    def _report(
        self,
        found: dict[str, int | None],
        given: timedelta | None,
        stopped: bool,
        seconds: float,
        options: dict[str, Any],
    ) -> None:
        verb = "would be deleted" if options["dry_run"] else "deleted"
        keep = retention() if given is None else given
        if options["json"]:
            figures = {
                "older_than_seconds": None if keep is None else keep.total_seconds(),
                "dry_run": options["dry_run"],
                "rows": found,
                "stopped": stopped,
                "seconds": round(seconds, 3),
            }
            self.stdout.write(json.dumps(figures))
        else:
            for name, count in found.items():
                number = "it cannot be told how many" if count is None else f"{count:,}"
                self.stdout.write(f"{name}: {number} {verb}")
            if kept := [each.name for each in pruners() if each.name not in found]:
                self.stdout.write(
                    f"{', '.join(kept)}: kept for ever, as RETENTION is None. Use --older-than."
                )
            if stopped:
                self.stdout.write("Stopped by a signal; the rest is for the next time.")


def _length(text: str) -> timedelta:
    match = _LENGTH.fullmatch(text)
    try:
        if match is None:
            raise ValueError
        length = timedelta(**{_UNITS[match[2] or "d"]: float(match[1])})
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"{text!r} is no age; write 7d, 12h, 30m or 90s") from None
    if length > timedelta(days=365_000):
        raise argparse.ArgumentTypeError(f"{text!r} is longer ago than there are dates")
    return length

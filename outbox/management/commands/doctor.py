"""manage.py doctor: say in words what is wrong, and what to do about it."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable
from typing import Any

from django.core.management.base import BaseCommand
from django.db import connections

from outbox.extensions.diagnosis import EXIT_CODES, Finding, Level, examine, worst
from outbox.extensions.watch import Watch
from outbox.flow.labels import printable
from outbox.producer.writing import write_database
from outbox.runtime.arguments import database_alias, seconds
from outbox.runtime.shutdown import Shutdown
from outbox.signals import finding_cleared, finding_raised, send

WATCH_SECONDS = 60.0


class Command(BaseCommand):
    help = (
        "Examine settings, database, relays, broker and inbox, and say in words what is wrong and "
        "what to do. Changes nothing. Exits 0 if all is well, 1 with warnings, 2 with errors. With "
        "--watch goes on until it is stopped, and tells what has come and what is gone."
    )
    requires_system_checks: list[str] = []  # it reports them itself

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--database",
            type=database_alias,
            metavar="ALIAS",
            help="whose outbox, by default as the routers say",
        )
        parser.add_argument("--json", action="store_true", help="print one JSON object")
        parser.add_argument(
            "--watch",
            type=seconds,
            nargs="?",
            const=WATCH_SECONDS,
            metavar="S",
            help="look every so many seconds (%(const)s), and send signals for what has changed",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        using = options["database"] or write_database()
        if options["watch"] is not None:
            self._watch(using, options["watch"], as_json=options["json"])
            return
        findings = examine(using)
        level = worst(findings)
        if options["json"]:
            self._print({"level": level, "findings": list(map(dataclasses.asdict, findings))})
        else:
            for finding in findings:
                self._show(finding)
        if code := EXIT_CODES[level]:
            sys.exit(code)

    def _watch(self, using: str, pause: float, *, as_json: bool) -> None:
        watch = Watch()
        with Shutdown() as shutdown:
            shutdown.install()
            while not shutdown.requested:
                raised, cleared = watch.look(examine(using))
                for finding in raised:
                    self._tell("raised", finding, as_json=as_json)
                    send(finding_raised, type(self), finding=finding, using=using)
                for finding in cleared:
                    self._tell("cleared", finding, as_json=as_json)
                    send(finding_cleared, type(self), finding=finding, using=using)
                self.stdout.flush()
                connections.close_all()  # one that broke is opened anew
                shutdown.wait(pause)

    def _tell(self, news: str, finding: Finding, *, as_json: bool) -> None:
        if as_json:
            self._print({news: dataclasses.asdict(finding)})
        elif news == "raised":
            self._show(finding)
        else:
            label = self.style.SUCCESS(f"{'GONE':8}")
            self.stdout.write(f"{label} {_safe(f'{finding.title} ({finding.id})')}")

    def _print(self, content: dict[str, Any]) -> None:
        self.stdout.write(json.dumps(content, default=str))

    def _show(self, finding: Finding) -> None:
        styles: dict[Level, Callable[[str], str]] = {
            Level.OK: self.style.SUCCESS,
            Level.INFO: self.style.NOTICE,
            Level.WARNING: self.style.WARNING,
            Level.ERROR: self.style.ERROR,
        }
        label = styles[finding.level](f"{finding.level.upper():8}")
        told = _safe(f"{finding.title} ({finding.id}): {finding.text}")
        self.stdout.write(f"{label} {told}")
        if finding.hint:
            self.stdout.write(f"{'':9}{_safe(finding.hint)}")


def _safe(text: str) -> str:
    """Return a text for a terminal: what strangers have sent moves no cursor, begins no line."""
    return f"\n{'':9}".join(map(printable, text.splitlines()))

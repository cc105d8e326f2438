"""manage.py doctor: say in words what is wrong, and what to do about it."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable
from typing import Any

from django.core.management.base import BaseCommand

from outbox.commands import database_alias
from outbox.emitting import write_database
from outbox.health import EXIT_CODES, Finding, Level, examine, worst


class Command(BaseCommand):
    help = (
        "Examine settings, database, relays, broker and inbox, and say in words what is wrong and "
        "what to do. Changes nothing. Exits 0 if all is well, 1 with warnings, 2 with errors."
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

    def handle(self, *args: Any, **options: Any) -> None:
        findings = examine(options["database"] or write_database())
        level = worst(findings)
        if options["json"]:
            found = [dataclasses.asdict(finding) for finding in findings]
            self.stdout.write(json.dumps({"level": level, "findings": found}, default=str))
        else:
            for finding in findings:
                self._show(finding)
        if code := EXIT_CODES[level]:
            sys.exit(code)

    def _show(self, finding: Finding) -> None:
        styles: dict[Level, Callable[[str], str]] = {
            Level.OK: self.style.SUCCESS,
            Level.INFO: self.style.NOTICE,
            Level.WARNING: self.style.WARNING,
            Level.ERROR: self.style.ERROR,
        }
        label = styles[finding.level](f"{finding.level.upper():8}")
        self.stdout.write(f"{label} {finding.title} ({finding.id}): {finding.text}")
        if finding.hint:
            self.stdout.write(f"{'':9}{finding.hint}")

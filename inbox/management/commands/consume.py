"""manage.py consume: handle what the broker delivers."""

import argparse
from collections.abc import Mapping, Sequence
from typing import IO, Any, cast

from django.core.management.base import BaseCommand, CommandError
from django.db import router

from inbox.conf import inbox_settings
from inbox.consumer import Consumer
from inbox.group_threads import GroupThreads
from inbox.handlers.groups import choose_groups, chosen_broker
from inbox.models import Receipt
from outbox.exceptions import OutboxError
from outbox.runtime import health
from outbox.runtime.arguments import (
    command_error,
    database_alias,
    database_errors_explained,
    settled,
)
from outbox.runtime.display import Reporter, rate
from outbox.runtime.shutdown import Shutdown, end_with
from outbox.telemetry import exporting


class Command(BaseCommand):
    help = (
        "Handle the messages of all groups' queues, each once per handler, until stopped, and "
        "those that are due for another attempt. Declares the queues and their bindings. SIGTERM "
        "finishes the batches and exits 0, or 1 if a group has ended with an error; a second "
        "signal exits at once."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--group",
            dest="groups",
            action="append",
            metavar="NAME",
            help="only this group; may be given several times",
        )
        parser.add_argument(
            "--database",
            type=database_alias,
            metavar="ALIAS",
            help="where receipts are, by default as the routers say",
        )
        parser.add_argument(
            "--until-empty",
            action="store_true",
            help="exit when the queues are empty and nothing is due; 1 if anything failed",
        )
        health.add_arguments(parser)
        parser.add_argument(
            "--parent",
            type=int,
            metavar="PID",
            help="stop, as by SIGTERM, when the parent is no longer this process",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with Shutdown() as shutdown:
                clean = self._consume(shutdown, options)
        except OutboxError as exc:
            raise command_error(exc) from exc
        if not clean:
            raise CommandError(
                "Not everything could be handled. See the messages above; manage.py doctor says "
                "what is in the way, the admin has receipts and dead letters."
            )

    def _consume(self, shutdown: Shutdown, options: dict[str, Any]) -> bool:
        chosen = options["groups"] or ()  # a single name, if call_command() was given one
        groups = choose_groups([chosen] if isinstance(chosen, str) else chosen)
        url, conf = chosen_broker(), inbox_settings()
        using = options["database"] or router.db_for_write(Receipt)
        each = [
            Consumer(
                group,
                url=url,
                conf=conf,
                using=using,
                shutdown=shutdown,
                several=len(groups) > 1,
            )
            for group in groups
        ]
        consumers = GroupThreads(each, shutdown)
        probes = health.serving(
            options,
            alive=health.turning(
                lambda: [consumer.turned for consumer in each], options["health_seconds"]
            ),
            ready=lambda: consumers.missing,
            tell=self.stderr.write,
            pages=exporting.pages(),
        )
        shutdown.install()
        if options["parent"] is not None:
            end_with(options["parent"], shutdown)
        shown = Reporter(cast(IO[str], self.stdout._out), ("inbox",), lambda: figures(each))
        with probes, shown:
            try:
                consumers.open()
                with database_errors_explained("consume", using), settled():
                    return consumers.run(until_empty=options["until_empty"])
            finally:
                consumers.close()


COUNTED = ("received", "handled", "duplicates", "retrying", "waiting", "skipped", "dead")


class ByGroup(dict[str, Mapping[str, Any]]):
    """The figures of several groups; as text without what is 0."""

    def __str__(self) -> str:
        return "; ".join(
            " ".join([group, *(f"{name} {value}" for name, value in shown.items() if value)])
            for group, shown in self.items()
        )


def figures(consumers: Sequence[Consumer]) -> dict[str, Any]:
    """Return what the terminal shows: of a group, or the sums of several and those of each."""
    groups = {each.group: _figures([each]) for each in consumers}
    if len(groups) == 1:
        [(group, shown)] = groups.items()
        return {"group": group, **shown}
    return {**_figures(consumers), "groups": ByGroup(groups)}


def _figures(consumers: Sequence[Consumer]) -> dict[str, Any]:
    progress = [each.progress for each in consumers]
    shown: dict[str, Any] = {
        name: sum(getattr(each, name) for each in progress) for name in COUNTED
    }
    shown["per_second"] = rate(shown["received"], min(each.started for each in progress))
    if away := sorted({each.away for each in progress if each.away}):
        shown["away"] = ", ".join(away)
    return shown

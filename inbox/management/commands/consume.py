"""manage.py consume: handle what the broker delivers."""

import argparse
from typing import IO, Any, cast

from django.core.management.base import BaseCommand, CommandError
from django.db import ProgrammingError, router

from inbox.conf import inbox_settings
from inbox.consumer import Consumer
from inbox.models import Receipt
from inbox.startup import choose_group, chosen_broker
from outbox.commands import database_alias, settled
from outbox.exceptions import OutboxError
from outbox.shutdown import Shutdown, end_with
from outbox.terminal import Reporter, rate


class Command(BaseCommand):
    help = (
        "Handle the messages of a group's queue, each once per handler, until stopped, and those "
        "that are due for another attempt. Declares the queue and its bindings. SIGTERM finishes "
        "the batch and exits 0; a second signal exits at once."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--group", metavar="NAME", help="which group; needed if handlers name several"
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
            help="exit when the queue is empty and nothing is due; 1 if anything failed",
        )
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
            raise CommandError(str(exc)) from exc
        except ProgrammingError as exc:
            raise CommandError(
                f"The database refuses the inbox: {str(exc).strip()}\n"
                "Has it been migrated? Run: manage.py migrate"
            ) from exc
        if not clean:
            raise CommandError(
                "Not everything could be handled; see the messages above, and the receipts in the "
                "admin."
            )

    def _consume(self, shutdown: Shutdown, options: dict[str, Any]) -> bool:
        group = choose_group(options["group"])
        url = chosen_broker()
        using = options["database"] or router.db_for_write(Receipt)
        consumer = Consumer(group, url=url, conf=inbox_settings(), using=using, shutdown=shutdown)
        shutdown.install()
        if options["parent"] is not None:
            end_with(options["parent"], shutdown)
        with Reporter(cast(IO[str], self.stdout._out), ("inbox",), lambda: figures(consumer)):
            consumer.open()
            with settled():
                return consumer.run(until_empty=options["until_empty"])


def figures(consumer: Consumer) -> dict[str, Any]:
    """Return what the terminal shows of a consumer."""
    progress = consumer.progress
    shown: dict[str, Any] = {
        "group": consumer.group,
        "received": progress.received,
        "handled": progress.handled,
        "duplicates": progress.duplicates,
        "retrying": progress.retrying,
        "waiting": progress.waiting,
        "skipped": progress.skipped,
        "dead": progress.dead,
        "per_second": rate(progress.received, progress.started),
    }
    if progress.away:
        shown["away"] = progress.away
    return shown

"""manage.py relay: publish what the outbox holds."""

import argparse
from typing import IO, Any, cast

from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError, ProgrammingError

from outbox.commands import database_alias, settled
from outbox.emitting import write_database
from outbox.exceptions import OutboxError
from outbox.shutdown import Shutdown
from outbox.terminal import Reporter, rate
from relay.conf import DEFAULT_RELAY, create_broker, get_relay_settings
from relay.log import open_log
from relay.loop import Relay


class Command(BaseCommand):
    help = (
        "Publish committed events, confirmed and in order per key, until stopped. SIGTERM finishes "
        "the page, checkpoints and exits 0; a second signal exits at once. With --once or "
        "--until-empty exits 1 if the broker or the database is away, or messages are parked."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--relay", default=DEFAULT_RELAY, metavar="NAME", help="which of RELAYS (%(default)s)"
        )
        parser.add_argument(
            "--database",
            type=database_alias,
            metavar="ALIAS",
            help="whose outbox, by default as the routers say",
        )
        parser.add_argument(
            "--page-size",
            type=_size,
            metavar="N",
            help="messages between two checkpoints, at most 100000",
        )
        mode = parser.add_mutually_exclusive_group()
        mode.add_argument("--once", action="store_true", help="look at each lane once, then exit")
        mode.add_argument(
            "--until-empty", action="store_true", help="exit when nothing is left to publish"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        with Shutdown() as shutdown:
            self._handle(shutdown, options)

    def _handle(self, shutdown: Shutdown, options: dict[str, Any]) -> None:
        try:
            relay = build(
                options["relay"],
                options["database"] or write_database(),
                shutdown,
                page_size=options["page_size"],
            )
        except OutboxError as exc:
            raise CommandError(str(exc)) from exc
        shutdown.install()
        with Reporter(cast(IO[str], self.stdout._out), ("relay",), lambda: figures(relay)):
            try:
                relay.open()
                with settled():
                    clean = self._run(relay, options)
            except OutboxError as exc:
                raise CommandError(str(exc)) from exc
            except (ProgrammingError, OperationalError) as exc:
                raise CommandError(
                    f"The database refuses the relay: {str(exc).strip()}\n"
                    "Has it been migrated? Run: manage.py migrate"
                ) from exc
            finally:
                relay.close()
        if not clean:
            raise CommandError(
                "Not everything could be published. What is in the way: manage.py relay_status"
            )

    @staticmethod
    def _run(relay: Relay, options: dict[str, Any]) -> bool:
        if options["once"]:
            return relay.run_once()
        if options["until_empty"]:
            return relay.run_until_empty()
        relay.run()
        return True


def build(name: str, using: str, shutdown: Shutdown, *, page_size: int | None = None) -> Relay:
    """Return the relay `name` for a database; raise ConfigurationError if it can't be built."""
    conf = get_relay_settings(name)
    log = open_log(name, using=using, start=conf.START, page_bytes=conf.PAGE_BYTES)
    return Relay(log, create_broker(name, using=using), conf, shutdown, page_size=page_size)


def figures(relay: Relay) -> dict[str, Any]:
    """Return what the terminal shows of a relay."""
    progress = relay.progress
    shown: dict[str, Any] = {
        "relay": relay.log.relay,
        "broker": relay.broker.address,
        "published": progress.published,
        "per_second": rate(progress.published, progress.started),
    }
    if progress.parked:
        shown["parked"] = progress.parked
    for what, breaker in progress.breakers.items():
        if breaker.failures:
            shown[f"{what}_breaker"] = breaker.state.value
    return shown


def _size(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text[:9]) <= 100_000:
        raise argparse.ArgumentTypeError(f"must be a number from 1 to 100000, not {text!r}")
    return int(text)

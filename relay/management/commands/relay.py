"""manage.py relay: publish what the outbox holds."""

import argparse
from typing import IO, Any, cast

from django.core.management.base import BaseCommand, CommandError

from outbox.exceptions import OutboxError
from outbox.producer.writing import write_database
from outbox.runtime import health
from outbox.runtime.arguments import (
    amount,
    command_error,
    database_alias,
    database_errors_explained,
    settled,
)
from outbox.runtime.display import Reporter, rate
from outbox.runtime.shutdown import Shutdown
from outbox.telemetry import exporting
from relay.brokers.base import address_of
from relay.conf import DEFAULT_RELAY, create_broker, get_relay_settings
from relay.log import open_log
from relay.loop import Relay


class Command(BaseCommand):
    help = (
        "Publish committed events, confirmed and in order per key, until stopped. SIGTERM finishes "
        "the page, checkpoints and exits 0; a second signal exits at once. With --once or "
        "--until-empty exits 1 if the broker or the database is away, or messages are parked; what "
        "a handler fails on with the local broker is the inbox's, see manage.py doctor."
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
            type=amount,
            metavar="N",
            help="messages between two checkpoints, at most 100000",
        )
        health.add_arguments(parser)
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
            raise command_error(exc) from exc
        probes = health.serving(
            options,
            alive=health.turning(lambda: [relay.turned], options["health_seconds"]),
            ready=lambda: relay.missing,
            tell=self.stderr.write,
            pages=exporting.pages(),
        )
        shutdown.install()
        shown = Reporter(cast(IO[str], self.stdout._out), ("relay",), lambda: figures(relay))
        with probes, shown:
            try:
                relay.open()
                with database_errors_explained("relay", relay.log.using), settled():
                    clean = self._run(relay, options)
            except OutboxError as exc:
                raise command_error(exc) from exc
            finally:
                relay.close()
        if not clean:
            raise CommandError(
                "Not everything could be published. What is in the way: manage.py doctor"
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
        "broker": address_of(relay.broker),
        "published": progress.published,
        "per_second": rate(progress.published, progress.started),
    }
    if progress.parked:
        shown["parked"] = progress.parked
    for what, breaker in progress.breakers.items():
        if breaker.failures:
            shown[f"{what}_breaker"] = breaker.state.value
    return shown

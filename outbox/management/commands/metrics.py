"""manage.py metrics: what the rows say in numbers, for Prometheus."""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import connections

from outbox.extensions.gauges import OK, SECONDS, meters
from outbox.instruments import instruments
from outbox.producer.writing import write_database
from outbox.runtime.arguments import database_alias, port
from outbox.runtime.shutdown import Shutdown
from outbox.telemetry.board import board
from outbox.telemetry.catalogue import attributes_table, gauges_table, instruments_table

ALERTS = Path(__file__).resolve().parents[2] / "telemetry" / "alerts.yml"


class Command(BaseCommand):
    help = (
        "Print the gauges of outbox, relay and inbox in Prometheus' text format. With --port serve "
        "them over HTTP at /metrics until stopped, so that they are there while others are away."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        mode = parser.add_mutually_exclusive_group()
        mode.add_argument("--port", type=port, metavar="N", help="serve them; 0 is any port")
        mode.add_argument(
            "--alerts", action="store_true", help="print rules for Prometheus instead: alerts"
        )
        mode.add_argument(
            "--board", action="store_true", help="print a board for Grafana instead, as JSON"
        )
        mode.add_argument(
            "--reference", action="store_true", help="print what there is instead, as Markdown"
        )
        parser.add_argument(
            "--host", default="127.0.0.1", help="the address to listen at (%(default)s)"
        )
        parser.add_argument(
            "--database",
            type=database_alias,
            metavar="ALIAS",
            help="whose outbox, by default as the routers say",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["alerts"]:
            self.stdout.write(ALERTS.read_text(encoding="utf-8"), ending="")
        elif options["board"]:
            every = [gauge for meter in meters() for gauge in meter.gauges]
            self.stdout.write(json.dumps(board([*every, OK, SECONDS, *instruments()]), indent=1))
        elif options["reference"]:
            self.stdout.write("\n".join(self._tables()), ending="")
        else:
            self._metrics(options)

    @staticmethod
    def _tables() -> Iterator[str]:
        every = [gauge for meter in meters() for gauge in meter.gauges]
        yield gauges_table([*every, OK, SECONDS])
        yield instruments_table(instruments())
        yield attributes_table(instruments())

    def _metrics(self, options: dict[str, Any]) -> None:
        try:
            from outbox.management.serving import MetricsServer  # noqa: PLC0415
            from outbox.telemetry.exposition import Exposition  # noqa: PLC0415
        except ImportError:
            raise CommandError(
                "It needs prometheus-client: pip install 'django-outbox-inbox[prometheus]'"
            ) from None

        class Served(Exposition):
            """Each request has a thread, which keeps no session behind it."""

            def collect(self) -> Any:
                try:
                    yield from super().collect()
                finally:
                    connections.close_all()

        using = options["database"] or write_database()
        if options["port"] is None:
            self.stdout.write(Exposition(using, patience=None).text().decode(), ending="")
            return
        shutdown = Shutdown()
        shutdown.install()
        try:
            server = MetricsServer(options["host"], options["port"], Served(using).registry)
        except OSError as exc:
            raise CommandError(f"Cannot listen at {options['host']}: {exc}") from exc
        thread = Thread(target=server.serve_forever, name="outbox-metrics", daemon=True)
        thread.start()
        try:
            where = f"http://{options['host']}:{server.server_port}/metrics"
            self.stderr.write(f"Metrics at {where}")
            while not shutdown.requested:
                shutdown.wait(60.0)
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
            shutdown.close()

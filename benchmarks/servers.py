"""The servers of a run: those that DATABASE_URL and BROKER_URL name, else some of our own.

Of our own are the embedded PostgreSQL, and a private RabbitMQ node where rabbitmq-server is
installed or can be. Without a broker the questions that need one are skipped, and say so.
"""

import os
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import psycopg
from kombu import Connection

from project import database_url
from project.embedded import server
from tests.kit.services import debian, rabbitmq

DATA = Path(__file__).resolve().parents[1] / ".local" / "bench-postgres"


class NoBroker(Exception):
    """There is no RabbitMQ and none can be started; says why."""


class Servers:
    """PostgreSQL and RabbitMQ. Use as a context manager."""

    def __init__(self) -> None:
        self._undo = ExitStack()
        self._admin_url = os.environ.get("DATABASE_URL") or server.url(DATA)
        self._broker_url = ""
        self._no_broker = ""

    def __enter__(self) -> Self:
        try:
            self._broker_url = os.environ.get("BROKER_URL") or self._start_broker()
        except NoBroker as exc:
            self._no_broker = str(exc)
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    @property
    def broker_url(self) -> str:
        """The URL of the broker; raises NoBroker."""
        if self._no_broker:
            raise NoBroker(self._no_broker)
        return self._broker_url

    @property
    def broker_version(self) -> str:
        if not self._broker_url:
            return ""
        with Connection(self._broker_url, connect_timeout=10) as connection:
            connection.connect()
            properties: dict[str, Any] = connection.connection.server_properties
        return str(properties.get("version", ""))

    @property
    def admin_url(self) -> str:
        return self._admin_url

    def url(self, database: str, application: str = "") -> str:
        """Return the URL of a database on the server."""
        settings = database_url.parse(self._admin_url) | {"NAME": database}
        if application:
            settings["OPTIONS"] = {**settings["OPTIONS"], "application_name": application}
        return database_url.compose(settings)

    def execute(self, statement: str) -> None:
        """Run a statement without a transaction, on the server as such."""
        with psycopg.connect(self._admin_url, autocommit=True) as connection:
            connection.execute(statement)

    def _start_broker(self) -> str:
        if rabbitmq.find_server() is None:
            if not debian.can_install():
                raise NoBroker("set BROKER_URL, or install rabbitmq-server")
            try:
                debian.install_rabbitmq()
            except subprocess.SubprocessError as exc:
                raise NoBroker(f"rabbitmq-server could not be installed: {exc}") from exc
        node = rabbitmq.RabbitNode()
        self._undo.callback(node.close)
        try:
            node.start()
        except RuntimeError as exc:
            raise NoBroker(str(exc)) from exc
        return node.url

"""The carrier, as processes of its own on a database of its own; see project.carrier."""

import http.client
import json
import secrets
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit
from uuid import UUID

from django.conf import settings

from project.demo.databases import url_beside
from project.demo.processes import ManageProcess, ProcessError
from project.demo.site import HOST, LOGIN, free_port
from project.demo.waiting import wait_until

SETTINGS = "project.carrier.settings"
_PATIENCE = 60.0


class Carrier:
    """The carrier's web server and relay. Use as a context manager: both have ended after it.

    `environment` is what the processes of the other project are given, so that they know it.
    `peers` are where the web servers of the other project will be, by the names of its services.
    """

    def __init__(self, port: int, *, peers: Mapping[str, str] | None = None) -> None:
        self._port = free_port(port)
        self._logs = tempfile.TemporaryDirectory(prefix="demo-")
        self._token = secrets.token_urlsafe()
        self.url = f"http://{HOST}:{self._port}"
        known = ",".join(f"{name}={url}" for name, url in (peers or {}).items())
        self.environment = {
            "CARRIER_URL": self.url,
            "FLOW_TOKEN": self._token,
            "PEERS": known,
        }
        self._own = {
            "DJANGO_SETTINGS_MODULE": SETTINGS,
            "DATABASE_URL": url_beside("carrier"),
            "FLOW_TOKEN": self._token,
            "PEERS": known,
            "BROKER_URL": "",
            "CARRIER_URL": "",
            "SERVICE": "",
        }
        self.site = self._start("carrier", str(self._port))
        self.relay: ManageProcess | None = None

    def __enter__(self) -> Self:
        self.await_ready()
        return self

    def await_ready(self) -> None:
        """Wait until its web server answers, and start its relay."""
        if not wait_until(self._answers, _PATIENCE):
            raise ProcessError(f"The carrier is not ready after {_PATIENCE:g} seconds.")
        self.relay = self._start("relay")

    def __exit__(self, *_: object) -> None:
        for process in filter(None, (self.site, self.relay)):
            process.request_stop()
        for process in filter(None, (self.site, self.relay)):
            process.finish()
        self._logs.cleanup()

    @property
    def invitation(self) -> str:
        """Where its admin is."""
        login = f" (login {LOGIN}, password {LOGIN})" if settings.DEBUG else ""
        return f"The carrier, a project with a database of its own: {self.url}/admin/{login}"

    @property
    def hint(self) -> str:
        """What happens when it goes."""
        return (
            f"Its web server is process {self.site.pid}. Kill that, and the page of a conversation "
            "says that the carrier did not tell; what it is to be told waits."
        )

    def parcels(self, orders: Collection[UUID]) -> Mapping[UUID, int]:
        """Ask the carrier how many parcels it has of orders."""
        ids = json.dumps([str(order) for order in orders]).encode()
        found: dict[str, int] = self._ask("/parcels/", ids)
        return {UUID(order): count for order, count in found.items()}

    def is_up(self) -> bool:
        """Tell whether it answers, or will soon; raise ProcessError if its relay has ended."""
        if self.relay is not None:
            self.relay.ensure_running()
        return self._answers()

    def kill(self) -> None:
        """End its web server as a power failure would, and start it again."""
        self.site.kill()
        self.start_site()

    def start_site(self) -> None:
        """Start its web server, which must have ended."""
        self.site = self._start("carrier", str(self._port))

    def _start(self, *arguments: str) -> ManageProcess:
        log = Path(self._logs.name) / f"{arguments[0]}.log"
        return ManageProcess(*arguments, log=log, env=self._own)

    def _answers(self) -> bool:
        self.site.ensure_running()
        try:
            self._ask("/parcels/", b"[]")
        except OSError:
            return False
        return True

    def _ask(self, path: str, body: bytes) -> Any:
        parts = urlsplit(self.url)
        link = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=_PATIENCE)
        try:
            link.request("POST", path, body, {"Authorization": f"Bearer {self._token}"})
            response = link.getresponse()
            said = response.read()
        finally:
            link.close()
        if response.status != 200:
            raise ProcessError(f"The carrier answers {response.status}: {said[:200]!r}")
        return json.loads(said)

"""Whether a process is alive and ready, over HTTP, for a supervisor that asks: Kubernetes, say.

GET /healthz    200 while its loop turns: else it should be started anew
GET /readyz     200 while it has all that it needs: else it waits, and a restart would not help

and whatever else there is to see of it, such as /metrics.
"""

import argparse
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import Any, Self

from django.core.management.base import CommandError

from outbox.error_text import describe
from outbox.runtime.arguments import WRONG_USAGE, port, seconds

logger = logging.getLogger("outbox")

Probe = Callable[[], str]
"""Says in a few words what is wrong, nothing secret; "" if nothing is."""

Page = Callable[[], tuple[HTTPStatus, str, str]]
"""Returns status, content type and text of an answer."""

SECONDS = 600.0
"""How long a turn of a loop may take: longer than the slowest handler."""
_PLAIN = "text/plain; charset=utf-8"
PATIENCE = 5.0
"""Seconds in which a request has to be sent, all of it, and an answer to be taken."""
MOST = 32
"""Requests that are waited for at once; for one more the oldest that is not there yet has to go."""


def turning(turned: Callable[[], Iterable[float]], seconds: float) -> Probe:
    """Return whether loops turn, by when each has turned last, as time.monotonic() counts."""

    def probe() -> str:
        return "stuck" if any(time.monotonic() - each > seconds for each in turned()) else ""

    return probe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Let a command that runs until it is stopped tell how it is."""
    parser.add_argument(
        "--health-port",
        type=port,
        metavar="N",
        help="answer at /healthz and /readyz over HTTP; 0 is any port",
    )
    parser.add_argument(
        "--health-host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="the address to listen at for that (%(default)s)",
    )
    parser.add_argument(
        "--health-seconds",
        type=seconds,
        default=SECONDS,
        metavar="S",
        help="how long one turn may take until it is not healthy: longer than the slowest handler "
        "(%(default)s)",
    )


def serving(
    options: Mapping[str, Any],
    *,
    alive: Probe,
    ready: Probe,
    tell: Callable[[str], object],
    pages: Mapping[str, Page] = MappingProxyType({}),
) -> AbstractContextManager[object]:
    """Answer in the block as the options say; raise CommandError if that is not possible."""
    if options["health_port"] is None:
        return nullcontext()
    if options.get("once") or options.get("until_empty"):
        raise CommandError(
            "--health-port is for a process that runs until it is stopped.", returncode=WRONG_USAGE
        )
    host = options["health_host"]
    try:
        server = HealthServer(host, options["health_port"], alive=alive, ready=ready, pages=pages)
    except OSError as exc:
        raise CommandError(f"Cannot listen at {host}: {exc}") from exc
    tell(f"Health at {server.url}/healthz and /readyz{''.join(f', {path}' for path in pages)}")
    return server


class HealthServer:
    """Listens from the start, and answers in threads of its own from `with` on."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        alive: Probe,
        ready: Probe,
        pages: Mapping[str, Page] = MappingProxyType({}),
    ) -> None:
        probes = {"/healthz": _page(alive), "/readyz": _page(ready)}
        self._server = _Server(host, port, {**pages, **probes})
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self._server.server_port}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="outbox-health", daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _page(probe: Probe) -> Page:
    def page() -> tuple[HTTPStatus, str, str]:
        wrong = probe()
        status = HTTPStatus.SERVICE_UNAVAILABLE if wrong else HTTPStatus.OK
        return status, _PLAIN, f"{wrong or 'ok'}\n"

    return page


class BoundedServer(ThreadingHTTPServer):
    """Answers each request in a thread, and waits neither for many at once nor for anybody long.

    A handler says with heard() that a request is there.
    """

    daemon_threads = True  # one that waits for its client keeps nobody from ending

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._unheard: dict[socket.socket, float] = {}
        self._lock = threading.Lock()
        self._places = threading.Semaphore(MOST)
        self.address_family = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)[0][0]
        super().__init__(address, handler)

    def server_bind(self) -> None:
        """Bind as any server does, but look no name up: that may take long."""
        if self.allow_reuse_address:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = self.socket.getsockname()[:2]

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread; if there are too many, who has been silent for longest has to go."""
        if not self._places.acquire(blocking=False):
            self._hang_up(oldest=True)
            if not self._places.acquire(timeout=PATIENCE / 10):
                self.shutdown_request(request)
                return
        with self._lock:
            self._unheard[request] = time.monotonic()
        try:
            super().process_request(request, client_address)
        except BaseException:  # the machine has no thread for it
            self.heard(request)
            self._places.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.heard(request)
            self._places.release()

    def service_actions(self) -> None:
        """Hang up on those who take too long to say what they want; called twice a second."""
        self._hang_up()

    def heard(self, request: Any) -> None:
        """Note that a request is there."""
        with self._lock:
            self._unheard.pop(request, None)

    def _hang_up(self, *, oldest: bool = False) -> None:
        since = time.monotonic() - PATIENCE
        with self._lock:
            gone = [each for each, begun in self._unheard.items() if begun < since]
            if oldest and not gone:
                gone = list(self._unheard)[:1]
            for request in gone:
                del self._unheard[request]
        for request in gone:
            with suppress(OSError):  # its thread reads the end, and closes it
                request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Leave a client alone that has gone; the next one is answered."""
        logger.debug("A request for the health of this process has failed.", exc_info=True)


class _Server(BoundedServer):
    def __init__(self, host: str, port: int, pages: Mapping[str, Page]) -> None:
        self.pages = pages
        super().__init__((host, port), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = PATIENCE
    server_version, sys_version = "outbox", ""

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def _answer(self) -> None:
        self.server.heard(self.connection)
        status, content_type, text = self._look()
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _look(self) -> tuple[HTTPStatus, str, str]:
        page = self.server.pages.get(self.path.partition("?")[0])
        if page is None:
            return HTTPStatus.NOT_FOUND, _PLAIN, "not found\n"
        try:
            return page()
        except Exception as exc:  # what cannot be told is not well
            logger.warning("The health of this process cannot be told: %s", describe(exc))
            return HTTPStatus.SERVICE_UNAVAILABLE, _PLAIN, "unknown\n"

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: it is asked every few seconds."""

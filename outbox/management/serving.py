"""Serve metrics over HTTP: as prometheus-client does, but nobody who is silent holds a thread."""

from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app

from outbox.runtime import health
from outbox.runtime.health import BoundedServer


class MetricsServer(BoundedServer, WSGIServer):
    """Listens from the start; answers while serve_forever() runs. Raises OSError if it cannot."""

    def __init__(self, host: str, port: int, registry: CollectorRegistry) -> None:
        super().__init__((host, port), _Handler)
        self.setup_environ()
        self.set_app(make_wsgi_app(registry))


class _Handler(WSGIRequestHandler):
    timeout = health.PATIENCE

    def parse_request(self) -> bool:
        found = super().parse_request()
        self.server.heard(self.connection)  # type: ignore[attr-defined]
        return found

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: it is asked every few seconds."""

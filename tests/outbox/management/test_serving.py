"""The server of manage.py metrics, for whoever connects."""

import threading
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, Gauge

from outbox.management.serving import MetricsServer
from outbox.runtime import health
from tests.kit.probes import ask
from tests.outbox.runtime.test_health import connected


@pytest.fixture
def url() -> Iterator[str]:
    registry = CollectorRegistry()
    Gauge("one", "One.", registry=registry).set(1)
    server = MetricsServer("127.0.0.1", 0, registry)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_who_is_silent_keeps_nobody_from_the_metrics(url: str) -> None:
    """However many there are."""
    before = threading.active_count()
    silent = [connected(url) for _ in range(3 * health.MOST)]
    try:
        for _ in range(3):
            status, text = ask(f"{url}/metrics")
            assert status == 200
            assert "one 1.0" in text
        assert threading.active_count() <= before + health.MOST + 1
    finally:
        for each in silent:
            each.close()

"""A Celery worker in the process of the tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery import Celery, signals
from celery.contrib.testing.worker import start_worker


def _as_it_is(**_: Any) -> None:
    """Take Celery's place in setting up the logging, of which it would change levels for good."""


@contextmanager
def embedded_worker(app: Celery) -> Iterator[None]:
    """Run a worker of an app in a thread, which leaves the logging of the process as it is."""
    signals.setup_logging.connect(_as_it_is)
    try:
        with start_worker(app, pool="solo", perform_ping_check=False, shutdown_timeout=60):
            yield
    finally:
        signals.setup_logging.disconnect(_as_it_is)

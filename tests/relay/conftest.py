"""Fixtures for the tests of the relay."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connections
from django.test import override_settings

from outbox.runtime.shutdown import Shutdown
from relay.conf import RelaySettings
from relay.log import open_log
from relay.loop import Relay
from tests.kit.support import RecordingBroker


@pytest.fixture
def one_lane() -> Iterator[None]:
    with override_settings(OUTBOX={"LANES": 1}):
        yield


@pytest.fixture
def two_lanes() -> Iterator[None]:
    with override_settings(OUTBOX={"LANES": 2}):
        yield


@pytest.fixture
def make(broker: RecordingBroker) -> Iterator[Callable[..., Relay]]:
    """Makes relays with options, all with the broker of the test, and closes them after it."""
    made = []

    def make(**options: Any) -> Relay:
        conf = RelaySettings(BACKEND="tests", RETRY_MAX=0.1, **options)
        relay = Relay(open_log("test", using="default"), broker, conf, Shutdown())
        made.append(relay)
        return relay

    yield make
    for relay in made:
        relay.close()
        relay._shutdown.close()


@pytest.fixture
def running(make: Callable[..., Relay]) -> Iterator[Callable[..., Relay]]:
    """Runs relays in threads of their own, and stops them after the test."""
    threads = []

    def start(**options: Any) -> Relay:
        relay = make(**options)

        def run() -> None:
            try:
                relay.run()
            finally:
                relay.close()
                connections.close_all()

        thread = threading.Thread(target=run)
        thread.start()
        threads.append((relay, thread))
        return relay

    yield start
    for relay, thread in threads:
        relay._shutdown.request()
        thread.join(10)
        assert not thread.is_alive()

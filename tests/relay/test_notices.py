"""What a relay tells receivers of signals."""

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection, transaction
from django.dispatch import Signal

import outbox
from outbox.signals import messages_parked, outage_began, outage_ended
from relay.brokers.base import Status
from relay.loop import Relay
from tests.kit.support import Counted, RecordingBroker
from tests.kit.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)

Got = list[dict[str, Any]]


@pytest.fixture
def broker() -> RecordingBroker:
    return RecordingBroker()


@pytest.fixture
def got(request: pytest.FixtureRequest) -> Callable[[Signal], Got]:
    def connect(signal: Signal) -> Got:
        found: Got = []

        def receive(sender: Any, **values: Any) -> None:
            assert not connection.in_atomic_block
            values.pop("signal")
            found.append(values)

        signal.connect(receive, weak=False)
        request.addfinalizer(lambda: signal.disconnect(receive))
        return found

    return connect


def test_what_is_parked(
    make: Callable[..., Relay], broker: RecordingBroker, got: Callable[[Signal], Got]
) -> None:
    """Once for a page, when it is over."""
    parked = got(messages_parked)
    with transaction.atomic():
        first, *_ = outbox.emit_many([Counted("a", number) for number in range(3)])
    broker.refuse = {first.id: Status.UNROUTABLE}
    make().run_once()

    [about] = parked
    assert about["relay"] == "test"
    assert about["count"] == 3  # with those of its key behind it
    assert "refused by the test" in about["reason"]


def test_an_outage_and_its_end(
    make: Callable[..., Relay], broker: RecordingBroker, got: Callable[[Signal], Got]
) -> None:
    """Each once, however often it was tried."""
    began, ended = got(outage_began), got(outage_ended)
    with transaction.atomic():
        outbox.emit(Counted("a", 1))
    relay = make()
    broker.away = "connection refused"
    until(lambda: relay.sweep() or relay.progress.broker.failures > 2)
    broker.away = ""
    until(relay.sweep)

    assert began == [{"what": "broker", "where": "memory", "reason": "connection refused"}]
    [end] = ended
    assert end["what"] == "broker"
    assert end["seconds"] > 0

"""Whatever a broker adapter raises, or returns amiss, is an outage of the broker, told once."""

import logging
from collections.abc import Callable, Iterator, Sequence
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import ProgrammingError, transaction
from django.test import override_settings

import outbox
from outbox.extensions.diagnosis import Level
from outbox.message.envelope import Envelope
from outbox.runtime.shutdown import Shutdown
from relay.brokers.base import CONFIRMED, Outcome, Status
from relay.brokers.local import LocalBroker
from relay.conf import RelaySettings
from relay.log import open_log
from relay.loop import Relay
from relay.models import Checkpoint, Parked
from tests.kit.odd_exceptions import ODD, made
from tests.kit.support import Counted, RecordingBroker
from tests.testapp.models import Effect

pytestmark = pytest.mark.django_db(transaction=True)


class OddBroker(RecordingBroker):
    """Raises something odd wherever it is called, until it is mended."""

    raises: Callable[[], object] | None = None

    def _raise(self) -> None:
        if self.raises is not None:
            self.raises()

    def open(self) -> None:
        self._raise()

    def publish(self, page: Sequence[Envelope]) -> list[Outcome]:
        self._raise()
        return super().publish(page)

    def keep_alive(self) -> None:
        self._raise()

    def close(self) -> None:
        self._raise()

    def examine(self, relay: str) -> Any:
        self._raise()
        return ()


MakeRelay = Callable[[Any], Relay]
SHORT = "one outcome less than messages"


@pytest.fixture
def make() -> Iterator[MakeRelay]:
    """Makes relays, with signals handled as the command handles them."""
    with Shutdown() as shutdown, override_settings(OUTBOX={"LANES": 1}):
        shutdown.install()

        def make(broker: Any) -> Relay:
            conf = RelaySettings(BACKEND="tests", RETRY_MAX=0.1)
            return Relay(open_log("test", using="default"), broker, conf, shutdown)

        yield make


def commit(*numbers: int) -> list[Envelope]:
    with transaction.atomic():
        return outbox.emit_many([Counted(str(number), number) for number in numbers])


def sweep(relay: Relay) -> int:
    relay.progress.broker._resume_at = 0.0
    return relay.sweep()


def test_a_broker_may_raise_anything(make: MakeRelay, caplog: pytest.LogCaptureFixture) -> None:
    """The relay opens, goes on and closes; nothing is checkpointed until it works."""
    commit(1, 2)
    for name, raises in ODD.items():
        broker = OddBroker()
        relay = make(broker)
        broker.raises = raises
        caplog.clear()
        relay.open()
        assert sweep(relay) == 0, name
        relay._keep_alive()
        relay.close()
        assert relay.troubled, name
        told = [each.getMessage() for each in caplog.records]
        assert told[0].startswith("The broker is away (memory): "), name
        assert told[-1].startswith("Error while closing the broker: "), name
        assert sum(each.startswith("The broker is away") for each in told) == 1, name
    assert not Checkpoint.objects.exists()
    assert not Parked.objects.exists()

    broker.raises = None
    assert sweep(relay) == 2
    assert broker.numbers() == [1, 2]
    assert not relay.troubled
    relay.close()


@pytest.mark.parametrize(
    "outcomes",
    [
        None,
        [],
        SHORT,
        [CONFIRMED] * 3,
        [None, None],
        [("confirmed", ""), 7],
        [Outcome("?", ""), CONFIRMED],  # type: ignore[arg-type]
    ],
)
def test_outcomes_that_are_none_are_an_outage(outcomes: Any, make: MakeRelay) -> None:
    """What is not told of each message is not known of any."""
    commit(1, 2)
    broker = OddBroker()
    short = outcomes is SHORT
    broker.publish = lambda page: (  # type: ignore[method-assign]
        [CONFIRMED] * (len(page) - 1) if short else outcomes
    )
    relay = make(broker)

    assert sweep(relay) == 0
    assert relay.troubled
    assert not Checkpoint.objects.exists()
    relay.close()


def test_a_reason_that_cannot_be_stored_is_kept_as_far_as_it_can(make: MakeRelay) -> None:
    """A refusal is text of others as well."""
    refused, _ = commit(1, 2)
    broker = OddBroker()
    odd = made(__str__=lambda _: "\x00\ud800" * 10_000)
    publish = broker.publish
    broker.refuse[refused.id] = Status.REFUSED
    broker.publish = lambda page: [  # type: ignore[method-assign]
        each if each is CONFIRMED else Outcome(each.status, odd())  # type: ignore[arg-type]
        for each in publish(page)
    ]
    relay = make(broker)

    assert sweep(relay) == 2
    [parked] = Parked.objects.all()
    assert parked.error.startswith("\\x00\\ud800")
    relay.close()


def test_a_receiver_in_the_relays_transaction_may_raise_anything(make: MakeRelay) -> None:
    """Nothing of what it did commits, as there is no checkpoint for it."""
    commit(1, 2)
    raises: Callable[[], object] | None = None

    def receive(page: Sequence[Envelope], *, using: str, seconds: float) -> list[None]:
        for each in page:
            Effect.objects.create(key="", number=1, message_id=each.id, handler="")
        if raises is not None:
            raises()
        return [None] * len(page)

    def retry(*, using: str) -> bool:
        if raises is not None:
            raises()
        return False

    broker = LocalBroker(receive, retry, using="default")
    relay = make(broker)
    for name, raises in ODD.items():  # noqa: B007 - read by the functions above
        broker._next_retry = 0.0
        assert sweep(relay) == 0, name
        relay._keep_alive()
        assert not Effect.objects.exists(), name
        assert relay.troubled, name

    raises = None
    for breaker in relay.progress.breakers.values():
        breaker._resume_at = 0.0
    assert sweep(relay) == 2
    assert Effect.objects.count() == 2
    relay.close()


def test_a_broker_that_cannot_be_examined_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    """The doctor goes on with what there is."""
    from outbox.extensions import diagnosis  # noqa: PLC0415 - after the apps

    broker = OddBroker()
    monkeypatch.setattr("relay.doctor.create_broker", lambda name, *, using: broker)
    broker.raises = ODD["str_exits"]

    findings = diagnosis.examine("default")

    [found] = [each for each in findings if each.id == "relay.unexamined"]
    assert found.level is Level.ERROR
    assert "Made: <no text" in found.text
    assert "migrate" not in found.hint


def test_the_command_ends_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """With --until-empty, a broker that raises is one that is away."""
    commit(1)
    broker = OddBroker()
    broker.raises = ODD["an_exit"]
    monkeypatch.setattr(
        "relay.management.commands.relay.create_broker", lambda name, *, using: broker
    )

    with pytest.raises(CommandError, match="Not everything could be published"):
        call_command("relay", "--until-empty", stdout=StringIO())


def test_a_broker_s_mistake_in_a_statement_is_an_outage_of_it(
    make: MakeRelay, caplog: pytest.LogCaptureFixture
) -> None:
    """It is the adapter's, not that of the log."""
    commit(1)
    broker = OddBroker()
    broker.raises = lambda: (_ for _ in ()).throw(ProgrammingError("no such table"))
    relay = make(broker)
    with caplog.at_level(logging.ERROR, "relay"):
        assert sweep(relay) == 0

    assert "The broker is away (memory): ProgrammingError: no such table" in caplog.text
    broker.raises = None
    relay.close()

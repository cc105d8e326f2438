"""Signals for what a person may want to be told."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.dispatch import Signal

from outbox.signals import finding_raised, send


class Receiver:
    """Keeps what it is sent, or raises; it has no name, as an instance of a class."""

    def __init__(self, raises: BaseException | None = None) -> None:
        self.got: list[dict[str, Any]] = []
        self._raises = raises

    def __call__(self, sender: Any, **values: Any) -> None:
        self.got.append(values)
        if self._raises:
            raise self._raises


@pytest.fixture
def signal() -> Iterator[Signal]:
    yield finding_raised
    finding_raised.receivers.clear()
    finding_raised.sender_receivers_cache.clear()


def test_whoever_is_connected_is_told(signal: Signal) -> None:
    """What it is about, by name."""
    receiver = Receiver()
    signal.connect(receiver)
    send(signal, None, using="default")
    assert receiver.got == [{"signal": signal, "using": "default"}]


@pytest.mark.parametrize("raises", [ValueError("no"), SystemExit(3)])
def test_one_that_raises_is_logged_and_stops_nothing(
    signal: Signal, raises: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever it raises; it may be a mistake of the receiver's."""

    def receive(sender: Any, **values: Any) -> None:
        raise raises

    signal.connect(receive)
    send(signal, None)
    assert repr(raises) in caplog.text or str(raises) in caplog.text


def test_one_without_a_name_that_raises_stops_nothing(
    signal: Signal, caplog: pytest.LogCaptureFixture
) -> None:
    """Django itself has no words for it."""
    receiver = Receiver(ValueError("no"))
    signal.connect(receiver)
    send(signal, None)
    assert "receiver of a signal has failed" in caplog.text


def test_a_persons_ctrl_c_goes_through(signal: Signal) -> None:
    """It means the process."""
    receiver = Receiver(KeyboardInterrupt())
    signal.connect(receiver)
    with pytest.raises(KeyboardInterrupt):
        send(signal, None)

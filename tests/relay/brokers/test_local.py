"""The local broker: what is due again is handled between the pages."""

import time

import pytest

from outbox.exceptions import ConfigurationError
from relay.brokers import local
from relay.brokers.local import LocalBroker
from tests.inbox.support import Handling, Mended, effects, happened, make_due

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]

turns: list[float] = []


def receive(page: object, *, using: str, seconds: float) -> list[None]:
    return []


def retry_thrice(*, using: str) -> bool:
    """More is due twice."""
    turns.append(time.monotonic())
    return len(turns) < 3


@pytest.fixture(autouse=True)
def no_turns() -> None:
    turns.clear()


def broker(**options: str) -> LocalBroker:
    return LocalBroker.from_settings("", options, using="default")


@pytest.fixture
def handling() -> Handling:
    return Handling()


def test_what_is_due_is_handled(handling: Handling) -> None:
    """By the relay, since there is no consumer."""
    handling(Mended())
    subject = broker()
    try:
        subject.publish([happened(7)])
        make_due()
        subject.keep_alive()
    finally:
        handling.forget()

    assert effects("record") == [7]


def test_it_looks_once_a_second_and_goes_on_while_more_is_due() -> None:
    """However often the relay asks; one long line does not take a second for each message."""
    subject = broker(RETRY=f"{__name__}.retry_thrice")

    for _ in range(5):
        subject.keep_alive()

    assert len(turns) == 3


def test_it_does_not_look_for_longer_than_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the pages have their turn."""
    monkeypatch.setattr(local, "RETRY_EVERY", 0.0)
    subject = broker(RETRY=f"{__name__}.retry_thrice")

    subject.keep_alive()

    assert len(turns) == 1


def test_another_receiver_has_its_own_way(handling: Handling) -> None:
    """The inbox is not asked for what it was not given."""
    subject = broker(RECEIVER=f"{__name__}.receive")

    subject.keep_alive()

    assert subject._retry is None


@pytest.mark.parametrize("options", [{"RETRY": "no.such.thing"}, {"RETRIES": "x"}])
def test_options_that_cannot_work_are_refused(options: dict[str, str]) -> None:
    """The system check tells them."""
    with pytest.raises(ConfigurationError, match="LocalBroker"):
        broker(**options)
    [error] = LocalBroker.check("default", "", options)

    assert error.id == "relay.E002"

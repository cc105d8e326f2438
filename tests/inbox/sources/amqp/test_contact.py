"""When a queue was last there for certain."""

from datetime import UTC, datetime, timedelta

import pytest

from inbox.sources.amqp.contact import Contact

pytestmark = pytest.mark.sqlite

START = datetime(2026, 1, 1, tzinfo=UTC)


class Clock:
    """Minutes that pass when the test says so."""

    def __init__(self) -> None:
        self.minutes = 0

    def __call__(self) -> datetime:
        return START + timedelta(minutes=self.minutes)


def minutes(contact: Contact) -> float:
    return (contact.at - START) / timedelta(minutes=1)


def test_silence_is_no_contact() -> None:
    """Reading nothing proves nothing: the broker may be cut off from us."""
    clock = Clock()
    contact = Contact(10, clock=clock)
    for clock.minutes in range(1, 4):
        contact.drained(frames=0)

    assert minutes(contact) == 0


def test_what_is_read_proves_the_time_when_all_before_was_read() -> None:
    """Not the time when it is read: it may have waited while a handler ran."""
    clock = Clock()
    contact = Contact(10, clock=clock)
    clock.minutes = 1
    contact.drained(frames=0)
    clock.minutes = 21
    contact.drained(frames=1)
    assert minutes(contact) == 1
    clock.minutes = 22
    contact.drained(frames=2)

    assert minutes(contact) == 21


def test_under_load_the_messages_that_may_be_on_their_way_prove_nothing() -> None:
    """Nobody reads all then; but one more than these was sent later."""
    clock = Clock()
    contact = Contact(10, clock=clock)
    clock.minutes = 5
    contact.full(tag=7)
    clock.minutes = 6
    contact.delivered(17)
    contact.full(tag=17)
    assert minutes(contact) == 0
    contact.delivered(18)
    assert minutes(contact) == 5
    contact.full(tag=18)
    contact.delivered(29)

    assert minutes(contact) == 6

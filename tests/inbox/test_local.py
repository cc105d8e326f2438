"""Receiving from a relay in the same process."""

import pytest
from django.db import transaction

from inbox.local import receive
from inbox.models import DeadLetter, Receipt
from outbox.envelope import Envelope
from tests.inbox.support import Handling, effects, happened, record
from tests.testapp.events import Happened
from tests.testapp.handlers import RECORD

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.sqlite]


def refuse_one(event: Happened, message: Envelope) -> None:
    if event.number == 1:
        raise ValueError("no luck")
    record(event, message)


def test_handlers_of_all_groups_are_called(handling: Handling) -> None:
    """There is no queue that would belong to one of them."""
    handling(name="a", declared_group="one")
    handling(name="b", declared_group="two")

    assert receive([happened(5)], using="default") == [None]

    assert effects("record") == [5, 5]
    assert effects(RECORD) == [5]


def test_the_answers_say_what_is_not_settled_and_why(handling: Handling) -> None:
    """In the order of the page; behind a failure its key waits."""
    handling(refuse_one, name="r")
    page = [happened(1, "a"), happened(2, "a"), happened(3, "b")]

    first, second, third = receive(page, using="default")

    assert first == "r: ValueError: no luck"
    assert second is not None
    assert f"waits behind {page[0].id}" in second
    assert third is None
    assert effects("record") == [3]


def test_effects_are_in_the_callers_transaction(handling: Handling) -> None:
    """When the relay cannot checkpoint, nothing has been handled."""
    with transaction.atomic():
        receive([happened()], using="default")
        transaction.set_rollback(True)

    assert Receipt.objects.count() == 0
    assert effects() == []


def test_a_message_that_nobody_wants_is_settled(handling: Handling) -> None:
    """As a broker drops what nobody subscribed to."""
    assert receive([happened(type="nobody.wants")], using="default") == [None]
    assert DeadLetter.objects.count() == 0


def test_a_version_that_a_group_does_not_know_is_its_dead_letter(handling: Handling) -> None:
    """As it would be on its queue; a group that knows the version handles it."""
    handling(name="old", declared_group="old", version=1, pattern="tests.thing")
    handling(name="new", declared_group="new", version=2, pattern="tests.thing")
    message = happened(7, type="tests.thing", version=2)

    assert receive([message], using="default") == [None]

    dead = DeadLetter.objects.get()
    assert (dead.group, dead.reason) == ("old", DeadLetter.Reason.UNKNOWN_VERSION)
    assert Receipt.objects.get().handler == "new"


def test_data_that_does_not_fit_is_the_handlers_dead_letter() -> None:
    """The group of the handler is named."""
    assert receive([happened(data=b"{}")], using="default") == [None]

    dead = DeadLetter.objects.get()
    assert (dead.group, dead.handler, dead.reason) == ("tests", RECORD, "invalid_data")

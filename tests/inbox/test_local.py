"""Receiving from a relay in the same process."""

import pytest
from django.db import transaction

from inbox.local import receive, retry_due
from inbox.models import DeadLetter, Receipt
from outbox.envelope import Envelope
from tests.inbox.support import Handling, Mended, effects, happened, make_due, record
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


def test_everything_is_settled(handling: Handling) -> None:
    """A failure is the inbox's to try again, and nothing that the relay would have to stop for."""
    handling(refuse_one, name="r")
    page = [happened(1, "a"), happened(2, "a"), happened(3, "b")]

    assert receive(page, using="default") == [None, None, None]

    assert effects("record") == [2, 3]
    assert Receipt.objects.get(handler="r", message_id=page[0].id).state == "retrying"


def test_what_is_due_is_handled_for_all_groups(handling: Handling) -> None:
    """The relay asks about once a second, since no consumer process does it."""
    handling(Mended(), name="a", declared_group="one")
    handling(Mended(), name="b", declared_group="two")
    receive([happened(7)], using="default")
    assert effects("record") == []
    make_due()

    assert retry_due(using="default") is False

    assert effects("record") == [7, 7]


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


def test_data_that_does_not_fit_is_dead_with_its_handler() -> None:
    """The handler is named."""
    assert receive([happened(data=b"{}")], using="default") == [None]

    dead = Receipt.objects.get()
    assert (dead.handler, dead.state, dead.reason) == (RECORD, "dead", "invalid_data")

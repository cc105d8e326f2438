"""What the inbox tells receivers of signals."""

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.dispatch import Signal

from inbox.models import DeadLetter, Receipt
from inbox.verdicts import RetryPolicy
from outbox.signals import dead_letter, receipt_dead
from tests.inbox.support import Handling, effects, fail, happened, make_due, receive, turn

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]

Got = list[dict[str, Any]]


@pytest.fixture
def got(request: pytest.FixtureRequest) -> Callable[..., Got]:
    def connect(signal: Signal, raises: BaseException | None = None) -> Got:
        found: Got = []

        def receive(sender: Any, **values: Any) -> None:
            assert not connection.in_atomic_block
            found.append({"sender": sender, **values})
            if raises:
                raise raises

        signal.connect(receive, weak=False)
        request.addfinalizer(lambda: signal.disconnect(receive))
        return found

    return connect


def test_a_dead_receipt(handling: Handling, got: Callable[..., Got]) -> None:
    """When it is dead, and not while it is tried again; its row is there by then."""
    dead = got(receipt_dead)
    handling(fail, name="failing", retry=RetryPolicy(attempts=2))
    message = happened()
    receive(message)
    assert dead == []
    make_due()
    turn()

    [about] = dead
    assert about["sender"] is Receipt
    assert (about["handler"], about["message_id"], about["attempts"]) == ("failing", message.id, 2)
    assert about["type"] == message.type
    assert "no luck" in about["error"]


def test_a_dead_letter(got: Callable[..., Got]) -> None:
    """Of a group: what is of no use, and why."""
    dead = got(dead_letter)
    message = happened(type="nobody.knows")
    receive(message)

    [about] = dead
    assert about["sender"] is DeadLetter
    assert (about["group"], about["reason"]) == ("g", "unknown_type")
    assert (about["message_id"], about["type"]) == (message.id, "nobody.knows")
    assert "No handler of group 'g'" in about["error"]


@pytest.mark.parametrize("raises", [ValueError("mine"), SystemExit(3)])
def test_a_receiver_that_raises_harms_no_message(
    handling: Handling, got: Callable[..., Got], raises: BaseException
) -> None:
    """What was handled beside it is handled, and what is dead is dead."""
    dead = got(receipt_dead, raises)
    handling(fail, name="failing", retry=RetryPolicy(attempts=1))
    handling(name="good")
    receive(happened(1), happened(2))

    assert len(dead) == 2
    assert effects() == [1, 2]
    assert Receipt.objects.filter(state="dead").count() == 2

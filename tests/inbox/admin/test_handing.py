"""Hand a message to one group, from its page."""

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.db import transaction
from django.test import Client
from django.urls import reverse

import outbox
from inbox.handing import hand_over
from inbox.models import DeadLetter, Receipt
from inbox.operator import NotPossible
from outbox.celery import OutboxCelery
from outbox.models import Message
from tests.inbox.support import Handling, effects, fail, receive, states
from tests.kit.admin_pages import confirmed, counted, detail_url, page, shown
from tests.kit.support import Counted

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def message() -> Message:
    with transaction.atomic():
        envelope = outbox.emit(Counted("a", 7))
    return Message.objects.get(message_id=envelope.id)


def hand(message: Message, group: str = "g") -> str:
    return reverse("admin:django_inbox_hand", args=(message.pk, group))


def allow(codename: str = "retry_receipt") -> None:
    user = User.objects.get(username="viewer")
    user.user_permissions.add(Permission.objects.get(codename=codename))


def test_a_message_is_handed_to_one_group(
    viewer: Client, message: Message, handling: Handling
) -> None:
    """By the button of a group without a receipt, after a question; no other group gets it."""
    handling(pattern="tests.counted")
    handling(fail, name="other", pattern="tests.counted", declared_group="others")
    allow()
    text = page(viewer, detail_url(message))
    assert "record no receipt in group g" in shown(text)
    assert "other no receipt in group others" in shown(text)
    assert hand(message) in text
    asked = viewer.get(hand(message))
    assert "Hand 1 message to group g?" in shown(asked.content.decode())
    assert effects() == []

    response = confirmed(viewer, asked)

    assert response.redirect_chain == [(detail_url(message), 302)]
    assert "Group g has had it: 1 processed." in response.content.decode()
    assert (effects(), states()) == ([7], ["processed"])
    assert LogEntry.objects.get().change_message == "Handed to group g."
    assert hand(message) not in response.content.decode()
    assert hand(message, "others") in response.content.decode()


def test_who_has_had_it_is_not_called_again(message: Message, handling: Handling) -> None:
    """Its receipt tells."""
    handling(pattern="tests.counted")
    receive(message.as_envelope())

    assert str(hand_over(message, "g", using="default")) == "1 processed"
    assert effects() == [7]


def test_a_handler_that_fails_is_tried_again(
    viewer: Client, message: Message, handling: Handling
) -> None:
    """As if the message had come by a queue; that is told, and not in green."""
    handling(fail, pattern="tests.counted")
    allow()

    response = viewer.post(hand(message), follow=True)

    [told] = response.context["messages"]
    assert (told.level_tag, str(told)) == ("warning", "Group g has had it: 1 retrying.")
    assert states() == ["retrying"]


def test_what_nobody_can_use_is_told(message: Message, handling: Handling) -> None:
    """It leaves no dead letter: it is in the log."""
    handling(pattern="tests.counted", version=9)
    with pytest.raises(NotPossible, match="v1"):
        hand_over(message, "g", using="default")

    assert not DeadLetter.objects.exists()


def test_it_takes_permissions(viewer: Client, message: Message, handling: Handling) -> None:
    """To look at messages and receipts, and to have those retried."""
    handling(pattern="tests.counted")
    assert hand(message) not in page(viewer, detail_url(message))
    assert viewer.get(hand(message)).status_code == 403
    assert viewer.post(hand(message)).status_code == 403
    allow()
    user = User.objects.get(username="viewer")
    user.user_permissions.remove(*Permission.objects.filter(codename="view_receipt"))

    assert viewer.post(hand(message)).status_code == 403
    assert not Receipt.objects.exists()


def test_what_is_not_there_is_not_found(
    viewer: Client, message: Message, handling: Handling
) -> None:
    """A group that wants it not, a message that is gone; a task has no group."""
    handling(pattern="tests.counted")
    allow()
    assert viewer.post(hand(message, "nobody")).status_code == 404
    assert viewer.post(hand(message).replace(str(message.pk), "99999")).status_code == 404
    with transaction.atomic():
        OutboxCelery("hand", set_as_current=False).send_task("shop.tasks.remind")
    handling(name="all", pattern="#")
    task = Message.objects.get(type="celery.task")

    assert viewer.post(hand(task)).status_code == 404
    assert "no receipt" not in shown(page(viewer, detail_url(task)))


def test_groups_without_a_receipt_cost_no_statement(
    viewer: Client, message: Message, handling: Handling
) -> None:
    """They are known by the code."""
    none = counted(viewer, detail_url(message))[1]
    handling(pattern="tests.counted")

    assert counted(viewer, detail_url(message))[1] == none

"""How it is told what became of a message."""

import pytest

from inbox import actions
from inbox.models import DeadLetter, Receipt
from tests.inbox.support import HAPPENED, Handling, happened, receive, records, turn

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]


def test_the_log_names_type_and_id_also_of_what_is_retried(
    handling: Handling, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether it was received just now or is a receipt that a person has retried."""
    handling()
    message = happened(data=b"{")
    receive(message)
    actions.retry(list(Receipt.objects.values_list("pk", flat=True)), using="default")
    turn()

    told = records(caplog, "Handler record failed on")
    assert [f"{HAPPENED} {message.id}" in each for each in told] == [True, True]


@pytest.mark.parametrize("data", [b'{"key":"k","number":NaN}', b'{"key":"k","number":-Infinity}'])
def test_numbers_that_json_does_not_have_make_a_dead_receipt(
    data: bytes, handling: Handling
) -> None:
    """The message itself is a CloudEvent, so each of its handlers has a receipt that says why."""
    handling(name="record")
    handling(name="another")
    receive(happened(data=data))

    assert list(Receipt.objects.values_list("state", "reason")) == [("dead", "invalid_data")] * 2
    assert not DeadLetter.objects.exists()

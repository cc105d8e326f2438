"""How it is told what became of a message."""

import pytest

from inbox import RetryPolicy, operator
from inbox.models import DeadLetter, Receipt
from tests.inbox.support import HAPPENED, Handling, fail, happened, receive, records, turn

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]


def test_the_log_names_type_and_id_also_of_what_is_retried(
    handling: Handling, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether it was received just now or is a receipt that a person has retried."""
    handling()
    message = happened(data=b"{")
    receive(message)
    operator.retry(list(Receipt.objects.values_list("pk", flat=True)), using="default")
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


def test_whoever_is_told_of_a_dead_message_gets_its_whole_id(handling: Handling) -> None:
    """Not what a line of the log would say: an id may have spaces in it."""
    told: list[str] = []
    handling(fail, retry=RetryPolicy(attempts=1), on_dead=lambda number, exc: told.append(number))

    receive(happened(id="an id of words"))

    assert told == ["an id of words"]

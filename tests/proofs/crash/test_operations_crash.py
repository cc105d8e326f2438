"""A process is killed between what somebody has done and its entry in the log of doings."""

import json
import signal

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db import transaction
from django.test import override_settings

import outbox
from inbox import Reject
from inbox.models import DeadLetter, Receipt
from outbox.models import Message
from relay.log import open_log
from relay.transfer import transfer
from tests.inbox.support import Handling, happened, receive
from tests.kit.processes import Process
from tests.kit.support import Counted, RecordingBroker
from tests.testapp.models import Effect

pytestmark = pytest.mark.django_db(transaction=True)


class Acting(Process):
    """An operation about rows, in a process of its own."""

    program = ("-m", "tests.proofs.crash.acting")


@pytest.fixture(autouse=True)
def root() -> User:
    return User.objects.create_superuser("root")


def killed(database_url: str, operation: str, *numbers: int, at: int = 1) -> None:
    """Carry out an operation; the process is killed when something was performed so often."""
    environment = {
        "DATABASE_URL": database_url,
        "TEST_OUTBOX": json.dumps({"LANES": 1}),
        "TEST_RELAY": json.dumps({"BACKEND": "relay.brokers.local.LocalBroker"}),
    }
    names = map(str, numbers)
    with Acting(operation, *names, failpoint=f"operation.performed:{at}", **environment) as process:
        assert process.wait() == -signal.SIGKILL, process.output


def written() -> list[tuple[int, str]]:
    found = LogEntry.objects.order_by("pk").values_list("object_id", "change_message")
    return [(int(number or 0), text) for number, text in found]


def test_nothing_is_discarded_and_not_written_down(database_url: str, handling: Handling) -> None:
    """Both are one transaction, which was not committed."""

    def reject(event: object, message: object) -> None:
        raise Reject("too small")

    handling(reject)
    receive(*(happened(number, key=f"k{number}") for number in range(3)))
    numbers = Receipt.objects.order_by("pk").values_list("pk", flat=True)

    killed(database_url, "discard", *numbers)

    assert set(Receipt.objects.values_list("state", flat=True)) == {"dead"}
    assert written() == []


def test_each_dead_letter_is_written_down_as_it_is_received(database_url: str) -> None:
    """A process that dies at the second has done nothing about it, and all about the first."""
    receive(*(happened(number, type="tests.late") for number in range(3)))
    letters = list(DeadLetter.objects.order_by("pk").values_list("pk", flat=True))

    killed(database_url, "receive", *letters, at=2)

    states = DeadLetter.objects.order_by("pk").values_list("state", flat=True)
    assert list(states) == ["processed", "dead", "dead"]
    assert Effect.objects.count() == 1
    assert written() == [(letters[0], "Retried. so")]


@override_settings(OUTBOX={"LANES": 1})
def test_what_a_broker_may_have_was_written_down_before(database_url: str) -> None:
    """As begun: what is outside of the database cannot be in its transactions."""
    with transaction.atomic():
        outbox.emit_many([Counted("a", number) for number in range(2)])
    transfer(open_log("default", using="default"), RecordingBroker(), 0, 100)
    numbers = list(Message.objects.order_by("pk").values_list("pk", flat=True))

    killed(database_url, "publish", *numbers)

    text = "Begun, and not known to be done. Published again by relay default. so"
    assert written() == [(number, text) for number in numbers]

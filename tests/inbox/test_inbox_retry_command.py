"""manage.py inbox_retry: what it selects, what it does, and how it ends."""

import json
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from inbox import Reject
from inbox.models import DeadLetter, Receipt
from outbox.envelope import Envelope
from tests.inbox.support import (
    Handling,
    effects,
    happened,
    make_due,
    postgresql,
    receive,
    record,
    states,
    turn,
)
from tests.sessions import sessions

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]


class Rejecting:
    """Rejects everything until it is mended."""

    def __init__(self) -> None:
        self.mended = False

    def __call__(self, event: Any, message: Envelope) -> None:
        if not self.mended:
            raise Reject("not today")
        record(event, message)


@pytest.fixture
def rejecting(handling: Handling) -> Rejecting:
    found = Rejecting()
    handling(found)
    return found


def call(*arguments: str) -> dict[str, Any]:
    """What it prints as JSON."""
    stdout = StringIO()
    call_command("inbox_retry", "--json", *arguments, stdout=stdout)
    found: dict[str, Any] = json.loads(stdout.getvalue())
    return found


def test_the_dead_are_retried_with_all_their_attempts(rejecting: Rejecting) -> None:
    """A consumer's next turn handles them."""
    receive(happened(1), happened(2))
    rejecting.mended = True

    assert call("--all") == {
        "what": "receipts",
        "action": "retried",
        "dry_run": False,
        "selected": 2,
        "changed": 2,
        "left": 0,
    }

    receipt = Receipt.objects.first()
    assert receipt is not None
    assert (receipt.state, receipt.attempts, receipt.error) == ("retrying", 0, "not today")
    assert turn().handled == 2
    assert sorted(effects()) == [1, 2]


@pytest.mark.parametrize(
    ("arguments", "selected"),
    [
        (["--handler", "other"], 1),
        (["--handler", "record"], 3),
        (["--type", "tests.happened"], 4),
        (["--type", "tests.counted"], 0),
        (["--reason", "rejected"], 3),
        (["--reason", "failed"], 0),
        (["--state", "retrying"], 1),
        (["--reason", "invalid_data", "--handler", "record"], 0),
    ],
)
def test_filters_select(
    arguments: list[str], selected: int, rejecting: Rejecting, handling: Handling
) -> None:
    """All of them must hold; without a state it is about the dead."""

    def fail(event: Any, message: Envelope) -> None:
        raise ValueError

    handling(rejecting, name="other", declared_group="other")
    handling(fail, name="failing", declared_group="failing")
    receive(happened(1), happened(2), happened(3))
    receive(happened(4, data=b"{"), group="other")
    receive(happened(5), group="failing")

    assert call("--dry-run", *arguments)["selected"] == selected
    assert states(state="dead") == ["dead"] * 4


def test_ids_select(rejecting: Rejecting) -> None:
    """Those of messages, as many as are given."""
    one, two, three = happened(1), happened(2), happened(3)
    receive(one, two, three)

    assert call("--id", one.id, "--id", three.id)["changed"] == 2
    assert states() == ["retrying", "dead", "retrying"]


def test_without_a_filter_it_asks(rejecting: Rejecting) -> None:
    """Everything at once has to be said."""
    receive(happened(1))

    with pytest.raises(CommandError, match="--all") as caught:
        call()

    assert caught.value.returncode == 2
    assert states() == ["dead"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--reason", "nonsense"],
        ["--dead-letters", "--state", "retrying"],
        ["--dead-letters", "--handler", "record"],
    ],
)
def test_what_cannot_be_meant_is_refused(arguments: list[str]) -> None:
    """With an exit code of its own."""
    with pytest.raises(CommandError) as caught:
        call(*arguments)

    assert caught.value.returncode == 2


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ["--handler", "recrod"],
            "There is no handler 'recrod'. Handlers: .*record.* There is: 2 d",
        ),
        (["--type", "tests.hapened"], r"no type .*There is: 2 dead \(record: tests.happened\)"),
        (["--type", "tests.else", "--dead-letters"], "no type .*There is nothing to be retried"),
    ],
)
def test_a_name_that_nobody_knows_is_refused(
    arguments: list[str], told: str, rejecting: Rejecting
) -> None:
    """A typing mistake must not look like success; it is told what there is."""
    receive(happened(1), happened(2))

    with pytest.raises(CommandError, match=told) as caught:
        call(*arguments)

    assert caught.value.returncode == 2


def test_an_id_of_which_nothing_is_dead_is_named(rejecting: Rejecting) -> None:
    """What else was chosen is retried; the command ends with 1, and says why."""
    dead, processed = happened(1), happened(2)
    receive(dead)
    rejecting.mended = True
    receive(processed)

    with pytest.raises(CommandError) as caught:
        call("--id", dead.id, "--id", processed.id, "--id", "nobody")

    assert str(caught.value).splitlines() == [
        f"No receipt of message {processed.id} is selected: it is processed.",
        "No receipt of message nobody is selected: there is none.",
    ]
    assert caught.value.returncode == 1
    assert states() == ["retrying", "processed"]


def test_nothing_to_do_for_a_known_handler_is_no_error(rejecting: Rejecting) -> None:
    """After every deployment, say; in words it is told that there was nothing."""
    output = StringIO()
    call_command("inbox_retry", "--handler", "record", stdout=output)

    assert output.getvalue().splitlines() == [
        "0 of 0 receipts retried.",
        "Nothing of that is there. There is nothing to be retried at all.",
    ]


def test_what_is_discarded_is_over(rejecting: Rejecting) -> None:
    """It is never tried again; its message is kept until retention deletes it."""
    receive(happened(1))

    assert call("--all", "--discard")["action"] == "discarded"

    rejecting.mended = True
    make_due()
    assert turn().settled == 0
    receipt = Receipt.objects.get()
    assert (receipt.state, receipt.reason) == ("discarded", "rejected")
    assert receipt.body is not None


def test_a_dry_run_changes_nothing(rejecting: Rejecting) -> None:
    """It only counts."""
    receive(happened(1))

    assert call("--all", "--dry-run") == {
        "what": "receipts",
        "action": "retried",
        "dry_run": True,
        "selected": 1,
        "changed": 0,
        "left": 0,
    }
    assert states() == ["dead"]


def test_many_are_taken_in_portions(rejecting: Rejecting, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each in a transaction of its own, none twice."""
    monkeypatch.setattr("inbox.management.commands.inbox_retry.STEP", 3)
    receive(*[happened(number) for number in range(10)])

    assert call("--all")["changed"] == 10
    assert call("--all")["selected"] == 0


def test_dead_letters_are_received_with_the_handlers_of_today(handling: Handling) -> None:
    """A handler that came later, or a version: the letter is processed, with a receipt."""
    message = happened(7, type="tests.later")
    receive(message)
    assert DeadLetter.objects.get().reason == "unknown_type"
    handling(pattern="tests.later", name="later")

    assert call("--dead-letters", "--all")["changed"] == 1

    letter = DeadLetter.objects.get()
    assert letter.state == "processed"
    assert Receipt.objects.get().handler == "later"
    assert call("--dead-letters", "--all")["selected"] == 0


def test_a_letter_that_is_still_unusable_makes_it_exit_1(handling: Handling) -> None:
    """It says what is wrong with it now."""
    receive(happened(1, version=9, type="tests.later"))
    handling(pattern="tests.later", version=1, name="v1")

    with pytest.raises(CommandError) as caught:
        call("--dead-letters", "--all")

    assert caught.value.returncode == 1
    letter = DeadLetter.objects.get()
    assert (letter.state, letter.reason) == ("dead", "unknown_version")
    assert "v1 (v1)" in letter.error
    assert DeadLetter.objects.count() == 1


def test_a_letter_that_was_discarded_stays_so_when_it_comes_again() -> None:
    """A person has decided; one that was processed is dead again."""
    message = happened(1, type="tests.unknown")
    receive(message)
    call("--dead-letters", "--all", "--discard")
    receive(message)
    assert DeadLetter.objects.get().state == "discarded"

    DeadLetter.objects.update(state="processed")
    receive(message)

    assert DeadLetter.objects.get().state == "dead"


@postgresql
@pytest.mark.parametrize("ordered", [False, True])
def test_what_is_in_work_is_left_and_makes_it_exit_1(ordered: bool, handling: Handling) -> None:
    """It does not wait for a consumer, nor change what that has in its hands."""

    def fail(event: Any, message: Envelope) -> None:
        raise ValueError

    handling(fail, ordered=ordered)
    receive(happened(1))
    make_due()

    with sessions(1) as [consumer]:
        consumer.begin()
        consumer.run(turn)
        with pytest.raises(CommandError, match="in work"):
            call("--state", "retrying", "--discard")
        consumer.commit()

    assert states() == ["retrying"]


def test_people_read_a_sentence(rejecting: Rejecting) -> None:
    """Without --json."""
    receive(happened(1))
    stdout = StringIO()

    call_command("inbox_retry", "--all", stdout=stdout)

    assert stdout.getvalue() == "1 of 1 receipts retried.\n"


@pytest.mark.parametrize("sequence", [None, "number"])
def test_discarding_a_head_lets_its_line_go_on(sequence: str | None, handling: Handling) -> None:
    """What waited behind it is due at once, in order; a sequence goes on with the next number."""

    def reject_one(event: Any, message: Envelope) -> None:
        if event.number == 1:
            raise Reject
        record(event, message)

    handling(reject_one, ordered=True, sequence=sequence)
    batch = [happened(number) for number in (1, 2, 3)]
    receive(*batch)
    assert effects() == []

    call("--id", batch[0].id, "--discard")
    turn()

    assert effects() == [2, 3]

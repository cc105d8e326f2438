"""manage.py inbox_retry: what it selects, what it does, and how it ends."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from inbox import Reject, RetryPolicy
from inbox.models import DeadLetter, Receipt
from inbox.states import State
from outbox.message.envelope import Envelope
from tests.inbox.support import (
    Handling,
    effects,
    fail,
    happened,
    in_thread,
    make_due,
    postgresql,
    receive,
    record,
    states,
    turn,
)
from tests.kit.sessions import sessions

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
    call_command("inbox_retry", "--json", "--wait", "0", *arguments, stdout=stdout)
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
        **dict.fromkeys(State.values, 0),
        "untried": 2,
        "behind": 0,
        "errors": [],
        "left_because": {},
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


def test_a_filter_selects_as_in_the_admin(handling: Handling, rejecting: Rejecting) -> None:
    """Beside the other conditions; what is retrying as well, if it says so."""
    handling(fail, name="failing")
    receive(happened(1), happened(2, type="tests.other"))
    assert Receipt.objects.filter(state="dead").count() == 1
    assert call("--filter", 'error:"not today"', "--dry-run")["selected"] == 1
    assert call("--filter", "error:luck", "--dry-run")["selected"] == 0
    assert call("--filter", "state:retrying error:luck", "--dry-run")["selected"] == 1
    assert call("--filter", "state:open age:<1h", "--dry-run")["selected"] == 2
    assert call("--filter", "state:open", "--handler", "failing", "--dry-run")["selected"] == 1
    assert call("--filter", "reason:unknown_type", "--dead-letters", "--dry-run")["selected"] == 1

    assert call("--filter", "state:dead handler:record")["changed"] == 1


@pytest.mark.parametrize("text", ["nobody:x", "state:deed", '"', "causation:x"])
def test_a_filter_that_cannot_be_used_is_refused(text: str, rejecting: Rejecting) -> None:
    """With where the mistake is; nothing is done."""
    receive(happened(1))
    with pytest.raises(CommandError, match=r"--filter: .*at character 1") as caught:
        call("--filter", text)

    assert caught.value.returncode == 2
    assert states() == ["dead"]


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


def test_what_was_discarded_can_be_restored(rejecting: Rejecting) -> None:
    """It is dead then, as before: nothing runs until somebody retries it."""
    receive(happened(1), happened(2))
    call("--all", "--discard")
    rejecting.mended = True

    restored = call("--all", "--restore")

    assert (restored["action"], restored["changed"], restored["dead"]) == ("restored", 2, 2)
    assert states() == ["dead", "dead"]
    assert effects() == []
    call("--all")
    turn()
    assert effects() == [1, 2]


def test_a_dead_letter_can_be_restored() -> None:
    """And is then received again like any other."""
    receive(happened(1, version=9, type="tests.later"))
    assert DeadLetter.objects.get().state == "dead"
    call("--dead-letters", "--all", "--discard")

    assert call("--dead-letters", "--all", "--restore")["changed"] == 1
    assert DeadLetter.objects.get().state == "dead"


def test_only_what_is_discarded_can_be_restored(rejecting: Rejecting) -> None:
    """What is dead is not, and a state to choose by would say nothing."""
    receive(happened(1))
    output = StringIO()
    call_command("inbox_retry", "--all", "--restore", stdout=output)
    assert "0 of 0 receipts restored" in output.getvalue()
    assert "nothing to be restored" in output.getvalue()
    with pytest.raises(CommandError, match="What can be restored is discarded"):
        call("--state", "dead", "--restore")
    with pytest.raises(CommandError, match="not allowed with"):
        call("--all", "--restore", "--discard")


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
    """Without --json; that it was retried is not yet that it was handled."""
    receive(happened(1))
    stdout = StringIO()

    call_command("inbox_retry", "--all", "--wait", "0", stdout=stdout)

    assert stdout.getvalue() == "1 of 1 receipts retried: 1 not tried yet.\n"


# --- What came of it -----------------------------------------------------------------------------


@contextmanager
def consumer() -> Iterator[None]:
    """Take turns at what is due, during the block."""
    over = threading.Event()

    def consume() -> None:
        while not over.wait(0.05):
            turn()

    with in_thread(consume):
        try:
            yield
        finally:
            over.set()


def told(*arguments: str) -> tuple[str, str]:
    """What it prints, and how it ends."""
    stdout = StringIO()
    try:
        call_command("inbox_retry", *arguments, stdout=stdout)
    except CommandError as exc:
        return stdout.getvalue(), str(exc)
    return stdout.getvalue(), ""


@postgresql
def test_it_says_that_receipts_are_processed(rejecting: Rejecting) -> None:
    """When a consumer has handled them, for which it waits."""
    receive(happened(1), happened(2))
    rejecting.mended = True

    with consumer():
        assert told("--all") == ("2 of 2 receipts retried: 2 processed.\n", "")
    assert sorted(effects()) == [1, 2]


@postgresql
def test_it_says_that_receipts_have_failed_again(
    handling: Handling, caplog: pytest.LogCaptureFixture
) -> None:
    """With the error of each handler, how often, and an exit code of 1."""

    def mended_in_part(event: Any, message: Envelope) -> None:
        if Receipt.objects.filter(state="dead").exists() or event.number > 1:
            raise ValueError("no such customer")

    handling(mended_in_part, retry=RetryPolicy(attempts=1))
    receive(happened(2))
    receive(happened(1), happened(3))

    with consumer():
        output, error = told("--all")

    assert output == "3 of 3 receipts retried: 1 processed, 2 dead.\n"
    assert error == "2 receipts have failed again: 2 of record: ValueError: no such customer"
    assert "By command: 3 receipts retried (1 processed, 2 dead), 0 left." in caplog.messages


def test_without_a_consumer_it_says_that_nothing_was_tried(rejecting: Rejecting) -> None:
    """It waits for as long as it was told to, and no longer; they stay due."""
    receive(happened(1))
    rejecting.mended = True

    output, error = told("--all", "--wait", "0.3")

    assert output == "1 of 1 receipts retried: 1 not tried yet.\n"
    assert error.startswith("1 receipts are due and were not tried within 0.3 s: is a consumer ")
    assert turn().handled == 1


def test_what_is_behind_another_is_told_apart(handling: Handling) -> None:
    """Nobody will try it before the other one of its key is over: it waits for nothing."""
    handling(Rejecting(), ordered=True, sequence="number")
    first, second = happened(1), happened(2, data=b"{")
    receive(first, second)
    assert states() == ["dead", "dead"]

    output, error = told("--id", second.id, "--wait", "60")

    assert output == "1 of 1 receipts retried: 1 behind another message of their key.\n"
    assert "1 receipts are due and wait behind another message of their key" in error
    assert turn().settled == 0


def test_a_letter_whose_handler_fails_is_no_success(handling: Handling) -> None:
    """The letter is processed, as its handler has a receipt of its own; that one failed."""
    receive(happened(7, type="tests.later"))
    handling(fail, pattern="tests.later", name="later")
    handling(pattern="tests.later", name="works")

    output, error = told("--dead-letters", "--all")

    assert output == "1 of 1 dead letters retried: 1 processed, 1 retrying.\n"
    assert error == "1 receipts have failed again: 1 of later: ValueError: no luck"
    assert DeadLetter.objects.get().state == "processed"


def test_a_letter_of_no_use_says_why_it_was_left() -> None:
    """Among others that it is."""
    receive(happened(1, type="tests.unknown"))

    output, error = told("--dead-letters", "--all")

    assert output == "0 of 1 dead letters retried.\n"
    assert error == "1 dead letters left as they were: 1 as unusable as before."


@pytest.mark.parametrize("seconds", ["-1", "nan", "100000", "soon"])
def test_a_wait_without_end_is_refused(seconds: str) -> None:
    """Before anything is done."""
    with pytest.raises((CommandError, SystemExit)):
        call_command("inbox_retry", "--all", f"--wait={seconds}")


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

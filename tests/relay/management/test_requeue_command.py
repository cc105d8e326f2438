"""manage.py relay_requeue: what a person can do about parked messages."""

import json
from io import StringIO
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction

import outbox
from relay.brokers.base import Status
from relay.log import open_log
from relay.models import Parked
from relay.transfer import transfer
from tests.kit.support import Counted, RecordingBroker

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.sqlite]


@pytest.fixture(autouse=True)
def parked() -> list[Parked]:
    """The first message of keys a and b is parked, another waits behind each."""
    log, broker = open_log("default", using="default"), RecordingBroker()
    with transaction.atomic():
        for key in "ab":
            [first, _] = outbox.emit_many([Counted(key, 1), Counted(key, 2)])
            broker.refuse[first.id] = Status.UNROUTABLE
    for lane in log.lanes_with_work(4):
        transfer(log, broker, lane, 100)
    return list(Parked.objects.order_by("position"))


def requeue(*arguments: str) -> dict[str, Any]:
    output = StringIO()
    call_command("relay_requeue", "--json", *arguments, stdout=output)
    found: dict[str, Any] = json.loads(output.getvalue())
    return found


def states() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for row in Parked.objects.order_by("position"):
        found.setdefault(str(row.key), []).append(row.state)
    return found


def test_it_requeues_what_is_chosen() -> None:
    """By key: the message is due at once, with attempts counted from zero."""
    assert requeue("--key", "a") == {"verb": "requeue", "messages": 1, "dry_run": False}

    assert Parked.objects.get(key="a", state="parked").attempts == 0
    assert Parked.objects.get(key="b", state="parked").attempts == 1


def test_a_filter_chooses_as_in_the_admin() -> None:
    """Beside the other conditions; one that cannot be used is refused, with where it is wrong."""
    assert requeue("--filter", "reason:unroutable key:a", "--dry-run")["messages"] == 1
    assert requeue("--filter", "state:open", "--discard", "--dry-run")["messages"] == 4
    assert requeue("--filter", "state:open", "--key", "b", "--discard")["messages"] == 2
    assert states() == {"a": ["parked", "waiting"], "b": ["discarded", "discarded"]}
    with pytest.raises(CommandError, match=r"There is no “x” here. Possible: .*at character 7"):
        requeue("--filter", "key:a reason:x")


def test_it_discards_and_says_by_whom(parked: list[Parked]) -> None:
    """By id: what waited behind it is the first of its key now."""
    requeue("--discard", "--id", str(parked[0].message_id))

    assert states() == {"a": ["discarded", "parked"], "b": ["parked", "waiting"]}
    assert "relay_requeue" in Parked.objects.get(state="discarded").settled_by


def test_it_restores_what_was_discarded(parked: list[Parked]) -> None:
    """It is dead, until it is requeued; later ones of its key wait again."""
    chosen = ("--id", str(parked[0].message_id))
    requeue("--discard", *chosen)

    assert requeue("--restore", *chosen) == {"verb": "restore", "messages": 1, "dry_run": False}

    assert states()["a"][0] == "dead"
    assert requeue(*chosen)["messages"] == 1
    with pytest.raises(CommandError, match="is not chosen: it is parked"):
        requeue("--restore", *chosen)


def test_a_dry_run_changes_nothing() -> None:
    """It only counts."""
    assert requeue("--all", "--discard", "--dry-run")["messages"] == 4
    assert states() == {"a": ["parked", "waiting"], "b": ["parked", "waiting"]}


def test_nothing_chosen_is_an_error() -> None:
    """Everything at once has to be asked for."""
    with pytest.raises(CommandError, match="--all"):
        requeue()


def test_nothing_found_is_an_error() -> None:
    """A typing mistake must not look like success."""
    there = r"There is: 2 parked of relay 'default' \(unroutable, topic tests.counted\)"
    with pytest.raises(CommandError, match=f"no such parked message. {there}") as caught:
        requeue("--key", "nobody")
    assert caught.value.returncode == 1


def test_what_waits_is_not_requeued_alone(parked: list[Parked]) -> None:
    """It is told which messages stand before it; the others that were chosen are requeued."""
    first, second = (str(row.message_id) for row in parked if row.key == "a")
    with pytest.raises(CommandError, match=rf"when these are settled: {first} \(parked\)"):
        requeue("--key", "a", "--state", "waiting")
    with pytest.raises(
        CommandError, match=f"^{second} is not chosen: it is waiting behind {first}"
    ):
        requeue("--id", first, "--id", second)

    assert Parked.objects.get(message_id=first).attempts == 0


def test_an_id_that_is_not_parked_is_named() -> None:
    """Among others that are."""
    unknown = str(uuid4())
    with pytest.raises(CommandError, match=f"^{unknown} is not parked, and never was"):
        requeue("--id", unknown)


def test_a_malformed_id_is_a_clear_error() -> None:
    """No traceback for an id that is none."""
    with pytest.raises(CommandError, match="not a message id"):
        requeue("--id", "17")

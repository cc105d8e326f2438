"""manage.py relay_replay, as a real process where it matters."""

import io
import json
import re
import signal
import uuid
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction
from django.test import override_settings

import outbox
from inbox.models import Receipt
from outbox.celery import OutboxCelery
from outbox.models import Message
from relay.brokers.base import CONFIRMED
from relay.brokers.local import LocalBroker
from relay.log import open_log
from relay.transfer import transfer
from tests.kit.processes import run, running
from tests.kit.support import RecordingBroker
from tests.testapp.events import Happened
from tests.testapp.models import Effect

pytestmark = pytest.mark.django_db(transaction=True)


def commit(*numbers: int) -> None:
    with transaction.atomic():
        outbox.emit_many([Happened("a", number) for number in numbers])


def published() -> None:
    """Let the default relay have published everything, though no consumer has had it."""
    log = open_log("default", using="default")
    while lanes := log.lanes_with_work(64):
        for lane in lanes:
            transfer(log, RecordingBroker(), lane, 1000)


@pytest.fixture
def local(database_url: str) -> dict[str, str]:
    return {"DATABASE_URL": database_url, "BROKER_URL": ""}


def call(*arguments: str) -> str:
    output = io.StringIO()
    call_command("relay_replay", *arguments, stdout=output)
    return output.getvalue()


@pytest.mark.slow
def test_it_publishes_again_and_exits_0(local: dict[str, str]) -> None:
    """Everything in a range reaches its handlers again, and what it did stands in JSON lines."""
    commit(1, 2, 3)
    published()
    first = Message.objects.earliest("pk").pk
    code, output = run("relay_replay", "--from-position", str(first + 1), **local)

    assert code == 0, output
    assert list(Effect.objects.order_by("pk").values_list("number", flat=True)) == [2, 3]
    last = json.loads(output.splitlines()[-1])
    assert (last["message"], last["replayed"], last["next_position"]) == ("stopped", 2, first + 3)


def test_tasks_have_to_be_asked_for() -> None:
    """They would run again, so a key alone does not name them; it is said how."""
    with transaction.atomic():
        sent = OutboxCelery("replay", set_as_current=False).send_task("shop.charge", (1,))
    with pytest.raises(CommandError, match=r"name their type, celery\.task"):
        call("--key", sent.id)


@pytest.mark.slow
def test_receivers_drop_what_they_have_had(local: dict[str, str]) -> None:
    """A replay is idempotent: handlers that have had the messages are not called again."""
    commit(1, 2)
    assert run("relay", "--until-empty", **local)[0] == 0
    code, output = run("relay_replay", "--all", "--json", **local)

    assert code == 0, output
    assert json.loads(output)["replayed"] == 2
    assert Effect.objects.count() == 2


def test_without_a_bound_it_does_nothing() -> None:
    """Nobody replays a whole log by forgetting an option."""
    with pytest.raises(CommandError, match="--all for everything"):
        call()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--from-position", "0"], "positions start at 1"),
        (["--from-position", "3", "--to-position", "2"], "Nothing lies between --from-position"),
        (["--since", "2026-01-02", "--until", "2026-01-01"], "Nothing lies between --since"),
        (["--since", "yesterday"], "'yesterday' is not a time"),
        (["--type", "shop..order"], "is no event type"),
        (["--all", "--relay", "nobody"], "No relay 'nobody' in RELAYS"),
    ],
)
def test_nonsense_is_refused_in_words(arguments: list[str], message: str) -> None:
    """What can't be meant is an error that says what is wrong."""
    with pytest.raises(CommandError, match=message):
        call(*arguments)


def test_a_dry_run_publishes_nothing() -> None:
    """How much it would be, in words and as JSON."""
    commit(1, 2)
    published()
    first = Message.objects.earliest("pk").pk

    where = f"positions {first} to {first + 1}"
    assert call("--all", "--dry-run") == f"2 messages would be published again, {where}.\n"
    assert json.loads(call("--key", "a", "--dry-run", "--json")) == {
        "relay": "default",
        "dry_run": True,
        "count": 2,
        "first": first,
        "last": first + 1,
        "hint": "",
    }
    assert Effect.objects.count() == 0


@pytest.mark.parametrize("how", [["--dry-run"], ["--json"]], ids=" ".join)
def test_bounds_that_hold_nothing_published_are_an_error(how: list[str]) -> None:
    """Exit 1, and what there is: a typing mistake must not look like success."""
    commit(1)
    published()
    [position] = Message.objects.values_list("pk", flat=True)
    commit(2)
    holds = f"The log holds positions {position} to {position + 1}"
    for bounds, told in {
        ("--key", "b"): f"{holds}. There is no message of key 'b'.",
        ("--type", "tests.hapened"): f"{holds}. There is no message of type tests.hapened.",
        ("--from-position", str(position + 2)): f"{holds}.",
        ("--from-position", str(position + 1)): (
            "relay 'default' has published none of what is in these bounds. The first, at "
            f"position {position + 1}, is pending."
        ),
    }.items():
        with pytest.raises(CommandError) as caught:
            call(*bounds, *how)
        assert str(caught.value).endswith(told)
        assert caught.value.returncode == 1


def test_all_of_nothing_is_no_error() -> None:
    """Everything was asked for, and that is what was done."""
    assert "0 messages would be" in call("--all", "--dry-run")


def test_a_page_is_as_large_as_those_of_the_relay(monkeypatch: pytest.MonkeyPatch) -> None:
    """PAGE_BYTES of the relay bounds it."""
    commit(1, 2, 3)
    published()
    pages: list[int] = []

    def publish(self: Any, page: Any) -> Any:
        pages.append(len(page))
        return [CONFIRMED] * len(page)

    monkeypatch.setattr(LocalBroker, "publish", publish)
    local = {"BACKEND": "relay.brokers.local.LocalBroker", "PAGE_BYTES": 1}
    with override_settings(RELAYS={"default": local}):
        call("--all")

    assert pages == [1, 1, 1]


def test_a_range_that_starts_before_the_log_is_told() -> None:
    """What is no longer kept is named, so that nobody waits for it."""
    commit(1, 2)
    published()
    first = Message.objects.earliest("pk").pk
    Message.objects.filter(pk=first).delete()

    assert f"The log begins at position {first + 1}" in call("--from-position", "1")


@pytest.mark.slow
def test_sigterm_finishes_the_page_and_tells_where_to_go_on(local: dict[str, str]) -> None:
    """Stopped in the middle: exit 0, and the bound that replays the rest and nothing else."""
    commit(*range(200))
    published()
    arguments = ("relay_replay", "--all", "--page-size", "1", "--json")
    with running(*arguments, **local) as process:
        process.wait_for(lambda: Effect.objects.count() > 3)
        process.send(signal.SIGTERM)
        assert process.wait() == 0, process.output
        told = json.loads(process.output.splitlines()[-1])

    assert told["complete"] is False
    assert told["replayed"] == Effect.objects.count() < 200
    code, output = run("relay_replay", "--from-position", str(told["next_position"]), **local)
    assert code == 0, output
    numbers = list(Effect.objects.order_by("pk").values_list("number", flat=True))
    assert numbers == [*range(200)]


@pytest.mark.slow
def test_a_failing_handler_halts_nothing(local: dict[str, str]) -> None:
    """The inbox keeps what its handler fails on and tries it again; the replay goes on."""
    commit(1, -1, 2)
    published()
    code, output = run("relay_replay", "--all", TEST_FAIL="-1", **local)

    assert code == 0, output
    assert Effect.objects.count() == 2
    assert Receipt.objects.filter(state="retrying").count() == 1


@pytest.mark.slow
def test_a_broker_that_is_away_is_told_with_the_place(database_url: str) -> None:
    """Exit 1, without the password, and nothing counts as published."""
    commit(1)
    published()
    url = "amqp://guest:s3cret@127.0.0.1:1//"
    code, output = run("relay_replay", "--all", DATABASE_URL=database_url, BROKER_URL=url)

    assert code == 1
    assert "The broker is away" in output
    assert f"--from-position {Message.objects.get().pk}" in output or "--from-position 1" in output
    assert "s3cret" not in output


@pytest.mark.slow
def test_a_broker_that_refuses_the_login_is_not_called_away(
    database_url: str, broker_url: str
) -> None:
    commit(1)
    published()
    url = re.sub("//.*@", "//nobody:s3cret@", broker_url)
    code, output = run("relay_replay", "--all", DATABASE_URL=database_url, BROKER_URL=url)

    assert code == 1
    assert "The broker does not let us in" in output
    assert "s3cret" not in output


def test_it_goes_through_the_broker_of_its_relay(broker_url: str) -> None:
    """A message that no queue wants is refused by RabbitMQ, and so halts the replay."""
    exchange = f"replay-{uuid.uuid4()}"
    relays: dict[str, Any] = {
        "default": {
            "BACKEND": "relay.brokers.amqp.AMQPBroker",
            "URL": broker_url,
            "OPTIONS": {"EXCHANGE": exchange},
        }
    }
    commit(1)
    published()
    with override_settings(RELAYS=relays), pytest.raises(CommandError, match="is refused"):
        call("--all")
    relays["default"]["OPTIONS"]["MANDATORY"] = False
    with override_settings(RELAYS=relays):
        assert json.loads(call("--all", "--json"))["complete"] is True

"""relay_status: the numbers, what they cost, and when something stands in the way."""

import json
from collections.abc import Iterator
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models import F
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from outbox.models import Message
from relay.log import open_log
from relay.models import Checkpoint, Parked
from relay.parking.people import discard
from relay.reports import status
from relay.reports.status import LaneStatus, lanes
from tests.relay.log.moving import move
from tests.relay.test_retention import commit, park, publish, relays

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]


@pytest.fixture(autouse=True)
def one_relay() -> Iterator[None]:
    with override_settings(OUTBOX={"LANES": 2}, RELAYS=relays("mine")):
        yield


def of_key(key: str) -> LaneStatus:
    """Return the status of the lane that messages of a key are in."""
    lane = Message.objects.filter(key=key).latest("pk").lane
    [found] = [each for each in lanes("default") if each.lane == lane]
    return found


def make_older(**age: float) -> None:
    Message.objects.update(time=F("time") - timedelta(**age))
    Checkpoint.objects.update(created=F("created") - timedelta(**age))


def ask(*arguments: str) -> str:
    output = StringIO()
    call_command("relay_status", *arguments, stdout=output)
    return output.getvalue()


def test_every_configured_lane_is_there() -> None:
    """Also those that nobody has published from yet."""
    found = lanes("default")

    assert [(each.relay, each.lane, each.backlog) for each in found] == [
        ("mine", 0, 0),
        ("mine", 1, 0),
    ]
    assert not any(each.in_the_way for each in found)


def test_what_is_pending() -> None:
    """How much, for how long, and when the last checkpoint was."""
    commit(4)
    publish(pages=1, size=3)
    make_older(seconds=20)
    found = of_key("a")

    assert found.backlog == 1
    assert found.oldest_pending == pytest.approx(20, abs=10)
    assert found.last_checkpoint == pytest.approx(20, abs=10)
    assert found.rate == pytest.approx(3 / 60, abs=0.1)


def test_a_large_backlog_is_not_counted_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond a number it is just more."""
    monkeypatch.setattr(status, "COUNTED", 5)
    commit(9)
    found = of_key("a")

    assert found.backlog == 6
    assert found.more
    assert "6+" in ask()


def test_the_cost_does_not_depend_on_the_history() -> None:
    """The same statements for one page and for many; only what is parked is ever counted."""
    numbers = []
    for pages in (1, 30):
        for _ in range(pages):
            commit(1)
            publish()
        with CaptureQueriesContext(connection) as captured:
            lanes("default")
        numbers.append(len(captured))
        counting = [q["sql"] for q in captured.captured_queries if "count(" in q["sql"].lower()]
        assert all("relay_parked" in statement for statement in counting)

    assert numbers[0] == numbers[1]


def test_nothing_moves() -> None:
    """Old messages and no new checkpoint: exit 1, with relay, lane and reason."""
    commit(1)
    publish()
    make_older(minutes=10)
    assert "mine" in ask()
    commit(1)
    assert "mine" in ask()
    make_older(minutes=10)

    with pytest.raises(CommandError, match=r"mine lane \d: pending for \d+ s") as caught:
        ask()
    assert caught.value.returncode == 1


def test_a_relay_that_works_through_a_backlog_is_not_stalled() -> None:
    """Whatever the age of what is pending: there was a checkpoint just now."""
    commit(5)
    make_older(hours=2)
    publish(pages=1, size=2)

    assert not of_key("a").stalled
    assert "mine" in ask()


def test_json() -> None:
    """All numbers, for machines."""
    commit(2)
    found: dict[str, Any] = json.loads(ask("--json"))

    assert found["counted_to"] == status.COUNTED
    assert sum(each["backlog"] for each in found["lanes"]) == 2
    assert {each["in_the_way"] for each in found["lanes"]} == {""}


def test_one_relay_of_several() -> None:
    """--relay takes those of RELAYS and those that are only in checkpoints; not just any name."""
    commit(1)
    publish("retired")
    assert "retired" in ask()
    assert "only in checkpoints" in ask("--relay", "retired")
    assert "retired" not in ask("--relay", "mine")

    with pytest.raises(CommandError, match="No relay 'nope'"):
        ask("--relay", "nope")


def test_every_column_has_a_heading() -> None:
    """The last one says what stands in the way, or that a relay is configured no more."""
    assert ask().splitlines()[0].endswith("last checkpoint  note")


def test_no_relay_at_all_is_an_error() -> None:
    """An empty table would look as if all were well."""
    with override_settings(RELAYS={}), pytest.raises(CommandError, match="RELAYS is empty"):
        ask()


def test_a_retired_relay_is_in_nobodys_way() -> None:
    """Nobody expects it to publish any more."""
    with override_settings(RELAYS=relays("mine")):
        commit(1)
        publish("retired")
        commit(1)
        publish("mine")
        make_older(days=2)

        assert "only in checkpoints" in ask()


def test_another_cluster() -> None:
    """The cursor means nothing here: how much is pending cannot be told."""
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has no clusters")
    commit(1)
    publish()
    Checkpoint.objects.update(system_identifier=1)

    assert of_key("a").backlog is None
    with pytest.raises(CommandError, match="another database cluster"):
        ask()


@pytest.mark.django_db
def test_within_a_test_case_nothing_is_moved() -> None:
    """Messages and cursors of the running transaction are of this cluster, savepoints or not."""
    commit(1)
    publish(start="now")
    commit(1)
    assert Checkpoint.objects.exists()

    assert not any(each.moved for each in lanes("default"))
    assert not open_log("mine", using="default").is_moved()
    assert ask()


def test_a_clone_with_the_same_identifier() -> None:
    """Fed by logical replication: the cursor itself says that it is from elsewhere."""
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has no clusters")
    commit(1)
    publish()
    assert not of_key("a").moved
    move(10**9, system_identifier=0)  # keeps the identifier

    assert of_key("a").moved
    assert of_key("a").backlog is None


def test_a_relay_that_starts_from_now_owes_nothing_yet() -> None:
    """Before its first checkpoint nothing is pending for it."""
    commit(2)
    with override_settings(RELAYS=relays("late", start="now")):
        assert [each.backlog for each in lanes("default")] == [0, 0]


def test_what_is_parked_is_in_the_way() -> None:
    """Counts of what left the flow and is still owed; the command says so and exits 1."""
    park()
    [found] = [each for each in lanes("default") if each.parked]
    assert (found.parked, found.waiting, found.dead, found.backlog) == (1, 2, 0, 0)
    assert "1 parked" in found.in_the_way
    with pytest.raises(CommandError, match="1 parked, 0 dead, 2 wait"):
        ask()


def test_the_keys_that_stand_still_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    """With the message that is first of the key now, why, and how many wait behind it."""
    park()
    first, second, _ = Parked.objects.order_by("position")
    Parked.objects.filter(pk=second.pk).update(state="dead", reason="refused", error="too large")
    discard(Parked.objects.filter(pk=first.pk), by="test")
    with pytest.raises(CommandError):
        call_command("relay_status")
    with pytest.raises(CommandError):
        call_command("relay_status", "--json")
    text, _, found = capsys.readouterr().out.rpartition("\n{")

    told = f"1 wait behind tests.counted {second.message_id} of key 'a', dead: refused: too large"
    assert f"mine lane {second.lane}: {told}" in text
    [head] = json.loads("{" + found)["heads"]
    assert (head["message_id"], head["waiting"]) == (str(second.message_id), 1)


def test_no_statement_asks_for_more_than_one_lane() -> None:
    """Whether something is in two lanes the planner finds out by walking the whole table."""
    commit(3)
    publish()
    with CaptureQueriesContext(connection) as captured:
        lanes("default")

    log = [each["sql"] for each in captured if 'FROM "django_outbox_message"' in each["sql"]]
    assert log
    assert [sql for sql in log if '"lane" >' in sql or '"lane" <' in sql] == []


@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="about PostgreSQL's planner")
def test_a_backlog_is_read_along_its_index() -> None:
    """Without statistics the planner takes it for little, and would read and sort all of it.

    Of a backlog of 500,000 that took 5 s, and it takes 5 ms so.
    """
    commit(4)
    publish()
    commit(3)
    seen: list[tuple[str, str, str]] = []

    def look(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if 'FROM "django_outbox_message" WHERE' in sql:
            names = ("enable_sort", "enable_bitmapscan", "jit")
            columns = ", ".join(f"current_setting('{name}')" for name in names)
            execute(f"SELECT {columns}", None, many, context)
            seen.append(context["cursor"].fetchone())
        return execute(sql, params, many, context)

    with connection.execute_wrapper(look):
        found = lanes("default")

    assert sum(each.backlog or 0 for each in found) == 3
    assert seen
    assert set(seen) == {("off", "off", "off")}

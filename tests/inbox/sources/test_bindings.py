"""What a group remembers of its queue: what was missing is told, what nobody handles is unbound."""

import json
import shlex
import uuid
from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext, override_settings
from django.utils import timezone

from inbox.doctor import examine
from inbox.handlers.topics import types_of
from inbox.models import Binding
from inbox.sources.base import Declared, Place
from inbox.sources.bindings import (
    Bindings,
    Plan,
    examine_abandoned,
    examine_bindings,
    examine_unread,
    replay_command,
)
from outbox.extensions.diagnosis import Finding, Level
from relay.management.commands.relay_replay import Command as Replay
from tests.inbox.sources.support import long_ago, remembered, unwanted
from tests.inbox.support import (
    Handling,
)
from tests.kit.support import Registered

pytestmark = pytest.mark.django_db(transaction=True)

PLACE = Place("queue", "events")


def connect(
    *topics: str,
    exists: bool = True,
    refused: Collection[str] = (),
    group: str = "g",
    place: Place = PLACE,
) -> Plan:
    """Do what a consumer does when it connects to a broker where things are so."""
    memory = Bindings("default", group, place)
    plan = memory.plan(topics, exists=exists)
    memory.confirm(plan, Declared(plan.topics.difference(refused), plan.gone.keys() - {*refused}))
    return plan


def options(command: str) -> dict[str, Any]:
    """What a printed command is understood as."""
    program, name, *arguments = shlex.split(command)
    assert (program, name) == ("manage.py", "relay_replay")
    return vars(Replay().create_parser(program, name).parse_args(arguments))


def findings() -> list[Finding]:
    return list(examine_bindings())


# --- What is told ------------------------------------------------------------------------------


@pytest.mark.sqlite
@pytest.mark.parametrize("exists", [True, False])
def test_a_group_that_is_new_misses_nothing(exists: bool, told: Callable[[], list[str]]) -> None:
    """Also where its queue is there already, declared before there was a memory."""
    plan = connect("tests.a", "tests.b", exists=exists)

    assert plan.since is None
    assert remembered() == ["tests.a", "tests.b"]
    assert not Binding.objects.filter(declared=None).exists()
    assert (told(), findings()) == ([], [])


@pytest.mark.sqlite
def test_what_has_not_changed_costs_two_statements(told: Callable[[], list[str]]) -> None:
    """One that reads, and one that notes that a consumer is there."""
    connect("tests.a", "tests.b")
    with CaptureQueriesContext(connection) as captured:
        connect("tests.b", "tests.a")

    assert [each["sql"].split()[0] for each in captured.captured_queries] == ["SELECT", "UPDATE"]
    assert told() == []


@pytest.mark.sqlite
def test_a_queue_that_was_lost_is_told(told: Callable[[], list[str]]) -> None:
    """Since when, and with the command, by log and doctor; as a warning."""
    connect("tests.a", "tests.#.b")
    since = long_ago()
    connect("tests.a", "tests.#.b", exists=False)

    [warning] = told()
    assert "Queue 'queue' of group 'g' was there before, was missing" in warning
    assert f"published since {since:%Y-%m-%d %H:%M} UTC may not have reached it" in warning
    [finding] = findings()
    assert (finding.level, finding.id) == (Level.WARNING, "inbox.bindings")
    assert f"from {since:%Y-%m-%d %H:%M} UTC to" in finding.text
    for text in (warning, finding.hint):
        given = options(text[text.index("manage.py") :].partition(". Then:")[0])
        assert given["since"] <= since <= timezone.now() <= given["until"]
        assert given["since"] > since - timedelta(minutes=10)
        assert given["types"] == ["tests.#.b", "tests.a"]


@pytest.mark.sqlite
def test_a_binding_that_is_new_is_told(told: Callable[[], list[str]]) -> None:
    """Since its consumers were there last, when they did not want it yet; worth knowing."""
    connect("tests.a")
    since = long_ago()
    connect("tests.a", "tests.b")

    [warning] = told()
    assert "is now bound to tests.b, which it was not before" in warning
    assert options(warning[warning.index("manage.py") :])["since"] <= since
    assert options(warning[warning.index("manage.py") :])["types"] == ["tests.b"]
    [finding] = findings()
    assert finding.level is Level.INFO
    assert "did not get tests.b from" in finding.text


@pytest.mark.sqlite
def test_another_queue_or_exchange_is_new(told: Callable[[], list[str]]) -> None:
    """With another prefix, say: what was bound to the old one has not reached the new one."""
    connect("tests.a")
    long_ago()
    connect("tests.a", place=Place("staging.queue", "events"))

    assert "Queue 'staging.queue' of group 'g' is now bound to tests.a" in told()[-1]


@pytest.mark.sqlite
def test_groups_know_nothing_of_each_other(told: Callable[[], list[str]]) -> None:
    """A second group of the same service is a new one."""
    connect("tests.a")
    connect("tests.a", group="h", place=Place("h", "events"))

    assert told() == []


@pytest.mark.sqlite
def test_a_process_that_ends_before_it_has_declared_leaves_it_to_the_next(
    told: Callable[[], list[str]],
) -> None:
    """What was missing is in the database before the broker is told: the doctor knows it too."""
    connect("tests.a")
    since = long_ago()
    Bindings("default", "g", PLACE).plan(["tests.a"], exists=False)
    assert len(findings()) == 1
    assert told() == []
    connect("tests.a")

    assert f"since {since:%Y-%m-%d %H:%M} UTC" in told()[0]
    connect("tests.a")
    assert len(told()) == 1


@pytest.mark.sqlite
def test_a_first_start_that_ends_before_it_has_declared_is_a_first_start(
    told: Callable[[], list[str]],
) -> None:
    """Nothing was there before, so nothing was lost."""
    Bindings("default", "g", PLACE).plan(["tests.a"], exists=False)
    connect("tests.a", exists=False)

    assert (told(), findings()) == ([], [])


@pytest.mark.sqlite
def test_who_was_there_last_is_remembered() -> None:
    """A consumer that has heard nothing for long does not hide that another one has."""
    memory, plan = Bindings("default", "g", PLACE), connect("tests.a")
    before = long_ago()
    later = before + timedelta(minutes=10)
    for contact in (later, before):
        assert memory.seen(plan, contact)

    assert Binding.objects.get().seen == later
    assert Binding.objects.get().wanted > later


@pytest.mark.sqlite
def test_a_second_loss_keeps_the_first(told: Callable[[], list[str]]) -> None:
    """Within the time that the doctor tells of it; nobody may have looked after that yet."""
    connect("tests.a")
    first = long_ago()
    connect("tests.a", exists=False)
    connect("tests.a", exists=False)
    assert f"since {first:%Y-%m-%d %H:%M} UTC" in told()[1]
    old = timezone.now() - timedelta(days=8)
    Binding.objects.update(declared=old, missing_since=old)
    assert findings() == []
    second = timezone.now() - timedelta(minutes=30)
    Binding.objects.update(seen=second)
    connect("tests.a", exists=False)

    assert f"since {second:%Y-%m-%d %H:%M} UTC" in told()[2]


@pytest.mark.sqlite
def test_the_command_names_types_and_not_their_topics(registered: Registered) -> None:
    """It selects what was emitted, not where it went."""
    registered("tests.moved", topic="elsewhere.moved")

    assert types_of({"elsewhere.moved", "tests.*"}) == ["tests.*", "tests.moved"]
    moment = timezone.now()
    assert "--type 'tests.*' --type tests.moved" in replay_command(
        ["tests.*", "elsewhere.moved"], moment, moment
    )


@pytest.mark.sqlite
def test_the_doctor_is_content_when_it_was_looked_after() -> None:
    """A group at a time; what is not declared yet is still missing."""
    for group in ("g", "h"):
        place = Place(group, "events")
        connect("tests.a", group=group, place=place)
        connect("tests.a", group=group, place=place, exists=False)
    connect("tests.a", "tests.b", group="g", place=Place("g", "events"))
    Bindings("default", "h", Place("h", "events")).plan(["tests.a", "tests.c"], exists=True)
    assert len(findings()) == 4
    output = StringIO()
    call_command("inbox_bindings", "--replayed", "--group", "g", stdout=output)
    assert output.getvalue() == "Noted: what 2 bindings had missed is looked after.\n"
    assert len(findings()) == 2
    call_command("inbox_bindings", "--replayed", stdout=output)

    [left] = findings()
    assert "did not get tests.c from" in left.text


@pytest.mark.sqlite
def test_what_groups_remember_is_shown() -> None:
    """A line for each binding, for people and as JSON."""
    connect("tests.a")
    connect("tests.a", exists=False)
    output = StringIO()
    call_command("inbox_bindings", stdout=output)
    call_command("inbox_bindings", "--json", stdout=output)
    words, line = output.getvalue().splitlines()

    assert words.startswith("g: tests.a of events to queue, declared 20")
    assert "may have missed events since 20" in words
    shown = json.loads(line)
    assert (shown["group"], shown["topic"], shown["lost"]) == ("g", "tests.a", True)
    assert datetime.fromisoformat(shown["missing_since"]) < timezone.now()


# --- What nobody handles -------------------------------------------------------------------------


@pytest.mark.sqlite
def test_what_nobody_has_wanted_for_a_day_is_unbound(told: Callable[[], list[str]]) -> None:
    """And not before: in a rolling deployment older processes still handle it. It is told."""
    connect("tests.a", "tests.b")
    assert not connect("tests.a").gone
    assert remembered() == ["tests.a", "tests.b"]
    assert told() == []
    unwanted("tests.b")

    assert set(connect("tests.a").gone) == {"tests.b"}
    assert (remembered(), remembered(bound=False)) == (["tests.a"], ["tests.b"])
    [warning] = told()
    assert "Queue 'queue' is unbound from tests.b: no consumer of group 'g'" in warning
    assert "such events are unroutable from now on: the relay" in warning
    assert not connect("tests.a").gone
    assert len(told()) == 1


@pytest.mark.sqlite
def test_what_a_running_consumer_wants_is_not_unbound() -> None:
    """It notes that it is there, again and again."""
    memory, old = Bindings("default", "g", PLACE), connect("tests.a", "tests.b")
    unwanted("tests.a", "tests.b")
    assert memory.seen(old, timezone.now())

    assert not connect("tests.a").gone


@pytest.mark.sqlite
def test_a_running_consumer_finds_what_is_to_be_unbound() -> None:
    """It need not be started again for that: it connects anew."""
    connect("tests.a", "tests.b")
    memory, new = Bindings("default", "g", PLACE), connect("tests.a")
    assert memory.seen(new, timezone.now())
    unwanted("tests.b")
    assert not memory.seen(new, timezone.now())
    connect("tests.a")

    assert memory.seen(new, timezone.now())


@pytest.mark.sqlite
def test_what_may_not_be_unbound_is_tried_again_in_a_day(told: Callable[[], list[str]]) -> None:
    """A refusal is not taken for done, nor is the broker asked all the time."""
    memory = Bindings("default", "g", PLACE)
    connect("tests.a", "tests.b")
    unwanted("tests.b")
    new = connect("tests.a", refused=["tests.b"])

    assert (set(new.gone), told()) == ({"tests.b"}, [])
    assert remembered() == ["tests.a", "tests.b"]
    assert memory.seen(new, timezone.now())
    assert not connect("tests.a").gone
    assert not connect("tests.a", "tests.b").missing
    unwanted("tests.b")
    assert set(connect("tests.a").gone) == {"tests.b"}


@pytest.mark.sqlite
def test_what_may_not_be_bound_is_not_taken_for_bound(told: Callable[[], list[str]]) -> None:
    """It is still missing, since the same time, until it may be."""
    connect("tests.a")
    since = long_ago()
    connect("tests.a", "tests.b", refused=["tests.b"])
    assert told() == []
    assert Binding.objects.get(topic="tests.b").declared is None
    assert Bindings("default", "g", PLACE).seen(
        connect("tests.a", "tests.b", refused=["tests.b"]), timezone.now()
    )
    connect("tests.a", "tests.b")

    assert f"published since {since:%Y-%m-%d %H:%M} UTC" in told()[0]


@pytest.mark.sqlite
def test_what_is_wanted_again_is_missing_since_it_was_unbound(
    told: Callable[[], list[str]],
) -> None:
    """Not since others of the group were there last: after a rollback nothing is lost silently."""
    memory, old = Bindings("default", "g", PLACE), connect("tests.a", "tests.b")
    unwanted("tests.b")
    new = connect("tests.a")
    since = timezone.now() - timedelta(hours=3)
    Binding.objects.filter(topic="tests.b").update(unbound=since, declared=since)
    assert memory.seen(new, timezone.now())
    assert not memory.seen(old, timezone.now())
    plan = connect("tests.a", "tests.b")

    assert (plan.missing, plan.since) == (("tests.b",), since)
    assert (
        f"is now bound to tests.b, which it was not before. Events of these that were "
        f"published since {since:%Y-%m-%d %H:%M} UTC may" in told()[-1]
    )
    assert memory.seen(old, timezone.now())
    assert (remembered(bound=False), len(findings())) == ([], 1)
    assert connect("tests.a", "tests.b").missing == ()


@pytest.mark.sqlite
def test_an_end_between_the_note_and_the_unbinding_loses_nothing(
    told: Callable[[], list[str]],
) -> None:
    """The next one unbinds, and the time stays that of the first; who wants it again knows it."""
    connect("tests.a", "tests.b")
    unwanted("tests.b")
    first = Bindings("default", "g", PLACE).plan(["tests.a"], exists=True).gone["tests.b"]
    assert connect("tests.a").gone == {"tests.b": first}
    unwanted("tests.b")
    Binding.objects.filter(topic="tests.b").update(declared=None)

    assert connect("tests.a", "tests.b").since == first


@pytest.mark.sqlite
def test_an_unbinding_that_overtakes_a_binding_is_noticed(told: Callable[[], list[str]]) -> None:
    """Which of them the broker did last nobody knows: whoever wants it looks again."""
    memory = Bindings("default", "g", PLACE)
    connect("tests.a", "tests.b")
    unwanted("tests.b")
    slow = memory.plan(["tests.a"], exists=True)
    old = connect("tests.a", "tests.b")
    assert memory.seen(old, timezone.now())
    memory.confirm(slow, Declared(slow.topics, frozenset(slow.gone)))

    assert not memory.seen(old, timezone.now())
    assert connect("tests.a", "tests.b").since == slow.gone["tests.b"]
    assert memory.seen(old, timezone.now())


@pytest.mark.sqlite
def test_what_is_lost_with_the_queue_is_missing_for_those_who_want_it(
    told: Callable[[], list[str]],
) -> None:
    """Also if a process that has no handler for it any more declares the queue anew."""
    memory, old = Bindings("default", "g", PLACE), connect("tests.a", "tests.b")
    since = long_ago()
    connect("tests.a", exists=False)
    assert not memory.seen(old, timezone.now())
    plan = connect("tests.a", "tests.b")

    assert (plan.missing, plan.since) == (("tests.b",), since)


@pytest.mark.sqlite
def test_a_group_without_handlers_is_told_until_it_is_forgotten(handling: Handling) -> None:
    """Its queue fills for ever, as nobody is there to unbind it; a warning after a day."""
    handling()
    for group in ("g", "old group"):
        connect("tests.a", "tests.b", group=group, place=Place(f"my.{group}", "events"))
    [finding] = examine_abandoned()
    assert (finding.level, finding.id) == (Level.INFO, "inbox.abandoned")
    assert "queue 'my.old group' was bound to tests.a, tests.b, and" in finding.text
    unwanted("tests.a", "tests.b")
    [finding] = examine_abandoned()
    assert finding.level is Level.WARNING
    assert "rabbitmqctl delete_queue 'my.old group'; manage.py" in finding.hint
    given = shlex.split(finding.hint[finding.hint.index("inbox_bindings") :].partition(". It")[0])
    output = StringIO()
    call_command(*given, stdout=output)

    assert output.getvalue() == "2 bindings are forgotten.\n"
    assert list(examine_abandoned()) == []
    with (
        override_settings(INBOX={"QUEUE_PREFIX": "my."}),
        pytest.raises(CommandError, match="Group 'g' has handlers"),
    ):
        call_command("inbox_bindings", "--forget", "g")
    assert remembered() == ["tests.a", "tests.b"]
    for slip in (
        ["--forget", "nobody"],
        ["--group", "nobody"],
        ["--group", "nobody", "--replayed"],
    ):
        with pytest.raises(CommandError, match=r"There is no group 'nobody'\. Groups: "):
            call_command("inbox_bindings", *slip)


@pytest.mark.sqlite
def test_a_queue_under_another_prefix_is_told_until_it_is_forgotten(
    handling: Handling, told: Callable[[], list[str]]
) -> None:
    """QUEUE_PREFIX was changed: nobody reads the old queue; the log says so once a process."""
    group = handling.group = f"g-{uuid.uuid4().hex}"
    handling()
    old, new = Place(f"old.{group}", "events"), Place(f"new.{group}", "events")
    connect("tests.a", "tests.b", group=group, place=old)
    assert told() == []
    for _ in range(2):
        connect("tests.a", "tests.b", group=group, place=new)
    [line] = [each for each in told() if "reads queue" in each]
    assert f"{new.queue!r}, and has read {old.queue!r} before, last at" in line
    remedy = f"--group {group}; then rabbitmqctl delete_queue {old.queue}; then, as it is now, "
    assert f"{remedy}manage.py inbox_bindings --forget {group}." in line

    with override_settings(INBOX={"QUEUE_PREFIX": "new."}):
        [finding] = [each for each in examine("default") if each.id == "inbox.unread"]
        assert finding.level is Level.INFO, "a process with the old prefix may still be there"
        Binding.objects.filter(queue=old.queue).update(wanted=timezone.now() - timedelta(hours=2))
        [finding] = examine_unread({group: new.queue})
        assert finding.level is Level.WARNING
        assert f"read {new.queue!r} here. They have read {old.queue!r} before" in finding.text
        assert f"{remedy}manage.py inbox_bindings --forget {group}." in finding.hint
        call_command("inbox_bindings", "--forget", group, stdout=StringIO())
        assert list(examine_unread({group: new.queue})) == []
        with pytest.raises(CommandError, match="has handlers"):
            call_command("inbox_bindings", "--forget", group)
    assert {each.queue for each in Binding.objects.filter(group=group)} == {new.queue}

"""The admin pages of checkpoints, and what the relay adds to those of messages."""

import re
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.db import connection, transaction
from django.test import Client, override_settings
from django.urls import reverse
from django.utils import timezone

import outbox
from outbox.models import Message
from relay import filtering
from relay.admin import messages as messages_admin
from relay.brokers.base import Status
from relay.log import open_log
from relay.models import Checkpoint, Parked
from relay.parking.people import discard
from relay.transfer import process_name, transfer
from tests.kit.admin_pages import (
    confirmed,
    counted,
    detail_url,
    for_the_limit,
    list_url,
    log_in,
    page,
    rows,
    shown,
)
from tests.kit.sessions import sessions
from tests.kit.support import Counted, RecordingBroker
from tests.kit.waiting import until
from tests.outbox.management.test_prune_command import waiting_for_lock

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]

LANES = 2
LOCAL = {"BACKEND": "relay.brokers.local.LocalBroker"}


@pytest.fixture(autouse=True)
def settings() -> Iterator[None]:
    with override_settings(OUTBOX={"LANES": LANES}, RELAYS={"default": LOCAL}):
        yield


@pytest.fixture
def two_relays() -> Iterator[None]:
    with override_settings(RELAYS={"default": LOCAL, "archive": LOCAL}):
        yield


def commit(count: int = 1, key: str = "a") -> list[Message]:
    with transaction.atomic():
        envelopes = outbox.emit_many([Counted(key, number) for number in range(count)])
    return [Message.objects.get(message_id=envelope.id) for envelope in envelopes]


def publish(relay: str = "default", page_size: int = 100) -> list[Checkpoint]:
    """Publish all there is; return the new checkpoints."""
    before = set(Checkpoint.objects.values_list("pk", flat=True))
    log = open_log(relay, using="default")
    while lanes := log.lanes_with_work(LANES):
        for lane in lanes:
            transfer(log, RecordingBroker(), lane, page_size)
    return list(Checkpoint.objects.exclude(pk__in=before).order_by("pk"))


def test_the_list_shows_states(viewer: Client) -> None:
    """A message is pending until it is published."""
    [message] = commit()
    assert re.search(rf"a pending \d s {message.pk}", shown(page(viewer, list_url(Message))))

    publish()
    assert re.search(rf"a published \d s {message.pk}", shown(page(viewer, list_url(Message))))


@pytest.mark.usefixtures("two_relays")
def test_states_name_their_relay_if_there_are_several(viewer: Client) -> None:
    """Also a relay that is not configured any more, but has checkpoints."""
    commit()
    publish("default")
    publish("retired")
    text = shown(page(viewer, list_url(Message)))

    assert "default: published archive: pending retired: published" in text


def test_the_state_filter(viewer: Client) -> None:
    """Pending and published messages, each by itself."""
    published = commit(3)
    publish()
    pending = commit(2)

    assert rows(viewer, list_url(Message, "?state=pending:default")) == pending[::-1]
    assert rows(viewer, list_url(Message, "?state=published:default")) == published[::-1]


@pytest.mark.usefixtures("two_relays")
def test_the_state_filter_knows_relays(viewer: Client) -> None:
    """With several relays there is a choice for each relay and state."""
    messages = commit(2)
    publish("default")

    assert rows(viewer, list_url(Message, "?state=pending:archive")) == messages[::-1]
    assert rows(viewer, list_url(Message, "?state=pending:default")) == []
    assert "archive: pending" in page(viewer, list_url(Message))


def test_a_large_backlog_is_walked(viewer: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many pending messages to list are found all the same, newest first."""
    monkeypatch.setattr(messages_admin, "FEW", 3)
    commit(2)
    publish()
    pending = commit(6)

    assert rows(viewer, list_url(Message, "?state=pending:default")) == pending[::-1]


def test_a_message_shows_when_and_by_whom_it_was_published(viewer: Client) -> None:
    """Time, process, duration and a link to the very checkpoint."""
    commit(3)
    [message] = commit()
    commit(3)
    made = publish(page_size=2)
    checkpoint = made[1]
    assert checkpoint.first_position <= message.pk <= checkpoint.position
    text = page(viewer, detail_url(message))

    assert f'<a href="{detail_url(checkpoint)}">#{checkpoint.pk}</a>' in text
    assert process_name() in text
    assert detail_url(made[0]) not in text


def test_a_pending_message_has_no_checkpoint(viewer: Client) -> None:
    """Its step says pending, and nothing else."""
    [message] = commit()

    text = page(viewer, detail_url(message))
    assert "default pending" in shown(text)
    assert "checkpoint" not in text.partition("outbox-step-open")[2].partition("</li>")[0]


def test_a_skipped_message_does_not_look_published(viewer: Client) -> None:
    """What a relay that starts from now has left behind is called so."""
    [message] = commit()
    log = open_log("default", using="default", start="now")
    log.lanes_with_work(LANES)
    commit()
    for lane in range(LANES):
        transfer(log, RecordingBroker(), lane, 10)
        transfer(log, RecordingBroker(), lane, 10)

    assert "default skipped" in shown(page(viewer, detail_url(message)))


def test_a_message_costs_the_same_however_long_the_chain(viewer: Client) -> None:
    """The search along the chain is one statement."""
    numbers = []
    for count in (1, 50):
        for _ in range(count):
            [message] = commit()
            publish()
        numbers.append(counted(viewer, detail_url(message))[1])

    assert numbers[0] == numbers[1]


def test_checkpoints_are_linked_only_for_those_who_may_see_them(client: Client) -> None:
    """Who may view messages learns their state; the link needs a permission of its own."""
    log_in(client, "django_outbox.message")
    [message] = commit()
    [checkpoint] = publish()
    text = page(client, detail_url(message))

    assert f"#{checkpoint.pk}" in text
    assert detail_url(checkpoint) not in text
    assert client.get(detail_url(checkpoint)).status_code == 403
    assert client.get(list_url(Checkpoint)).status_code == 403


def test_checkpoints_are_listed_newest_first(viewer: Client) -> None:
    """Relay, lane, time, number of messages, duration, process."""
    commit(3)
    made = publish(page_size=2)
    text = shown(page(viewer, list_url(Checkpoint)))

    assert rows(viewer, list_url(Checkpoint)) == made[::-1]
    assert f"#{made[0].pk} default {made[0].lane}" in text
    assert f"2 {made[0].duration.total_seconds() * 1000:.1f} ms {process_name()}" in text


def test_a_list_of_checkpoints_costs_the_same_for_one_and_a_hundred(viewer: Client) -> None:
    """The number of statements does not depend on the number of rows."""
    numbers = []
    for count in (1, 99):
        for _ in range(count):
            commit()
            publish()
        text, number = counted(viewer, list_url(Checkpoint))
        numbers.append(number)
    assert text.count("field-number") == 100

    # session, user, twice permissions, cursors for each of two filters, rows
    assert numbers == [7 + for_the_limit()] * 2


def test_checkpoints_are_filtered_by_relay_and_lane(viewer: Client) -> None:
    """The choices are the chains that there are; a chain that ended is found at once."""
    for key in "abcd":
        commit(1, key)
    retired = publish("retired")
    current = publish("default")
    assert {each.lane for each in current} == {0, 1}

    assert rows(viewer, list_url(Checkpoint, "?relay=retired")) == retired[::-1]
    assert rows(viewer, list_url(Checkpoint, "?relay=default&lane=1")) == [
        each for each in current[::-1] if each.lane == 1
    ]
    assert rows(viewer, list_url(Checkpoint, "?relay=unknown")) == [*current[::-1], *retired[::-1]]


def test_a_checkpoint_shows_its_window_and_neighbours(viewer: Client) -> None:
    """Where it stands in the chain, with links to both sides."""
    commit(5)
    first, second, third = publish(page_size=2)
    text = page(viewer, detail_url(second))

    assert f'<a href="{detail_url(first)}">#{first.pk}</a>' in text
    assert f'<a href="{detail_url(third)}">#{third.pk}</a>' in text
    assert str(second.first_position) in text


def test_a_checkpoint_cannot_be_changed(admin_client: Client) -> None:
    """A checkpoint is a fence: not even a superuser changes one here."""
    commit()
    [checkpoint] = publish()

    assert admin_client.post(detail_url(checkpoint), {"position": 0}).status_code == 403
    delete = detail_url(checkpoint).replace("change", "delete")
    assert admin_client.post(delete, {"post": "yes"}).status_code == 403
    assert admin_client.get(list_url(Checkpoint) + "add/").status_code == 403
    assert Checkpoint.objects.filter(pk=checkpoint.pk).exists()


# --- Parked messages ------------------------------------------------------------------------


def park(*keys: str) -> list[Parked]:
    """Park the first message of each key, and another behind it."""
    log, broker = open_log("default", using="default"), RecordingBroker()
    for key in keys:
        [first, _] = commit(2, key=key)
        broker.refuse[str(first.message_id)] = Status.UNROUTABLE
    for lane in range(LANES):
        transfer(log, broker, lane, 100)
    return list(Parked.objects.order_by("position"))


def act(client: Client, action: str, *rows: Parked) -> str:
    response = client.post(
        list_url(Parked),
        {"action": action, ACTION_CHECKBOX_NAME: [row.pk for row in rows]},
        follow=True,
    )
    if "outbox-confirm" in response.content.decode():
        response = confirmed(client, response)
    return shown(response.content.decode())


def client_history(client: Client, row: Parked) -> str:
    url = reverse("admin:django_relay_parked_history", args=(row.pk,))
    assert url in page(client, detail_url(row))
    return client.get(url).content.decode()


def permit(*codenames: str) -> None:
    viewer = User.objects.get(username="viewer")
    viewer.user_permissions.add(*Permission.objects.filter(codename__in=codenames))


def test_parked_messages_are_listed_with_their_reason(viewer: Client) -> None:
    """State, reason and error of each; a number of statements that does not depend on the rows."""
    park("a")
    text, few = counted(viewer, list_url(Parked))
    assert "tests.counted parked a unroutable: " in shown(text)
    assert "tests.counted waiting a behind " in shown(text)
    assert "refused by the test" in text
    park("b", "c", "d")

    assert counted(viewer, list_url(Parked))[1] == few


def test_what_waits_shows_what_it_waits_behind_now(viewer: Client) -> None:
    """Not what was refused when it was parked: the present head of its key, with a link to it."""
    [first, second] = park("a")
    # Else it may be due by now, and would be tried before anything new is read.
    Parked.objects.filter(pk=first.pk).update(next_attempt_at=timezone.now() + timedelta(hours=1))
    commit(1, key="a")
    log = open_log("default", using="default")
    for lane in range(LANES):
        transfer(log, RecordingBroker(), lane, 100)
    third = Parked.objects.latest("position")
    discard(Parked.objects.filter(pk=first.pk), by="somebody")
    Parked.objects.filter(pk=second.pk).update(state="dead", reason="refused", error="too large")

    for text in (page(viewer, list_url(Parked)), page(viewer, detail_url(third))):
        assert detail_url(second) in text
        assert "too large" in text
    told = f"behind {second.message_id} , dead: refused: too large"
    assert told in shown(page(viewer, list_url(Parked)))
    Parked.objects.filter(pk=second.pk).update(state="published")
    for text in (page(viewer, list_url(Parked)), page(viewer, detail_url(third))):
        assert "nothing is before it any more" in text


def test_parked_messages_are_found_by_key_and_id(viewer: Client) -> None:
    """The search box takes either."""
    park("a", "b")
    [row] = Parked.objects.filter(key="b", state="parked")

    assert {found.key for found in rows(viewer, list_url(Parked, "?q=b"))} == {"b"}
    assert rows(viewer, list_url(Parked, f"?q={row.message_id}")) == [row]
    assert rows(viewer, list_url(Parked, "?q=nothing")) == []


def test_the_head_of_a_busy_key_is_found(viewer: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though more of its key were emitted since than are looked through."""
    monkeypatch.setattr(filtering, "SEARCHED", 1)
    park("b")
    [head] = Parked.objects.filter(key="b", state="parked")
    commit(3, key="b")

    for query in ("?q=key:b", "?q=b"):
        assert head in rows(viewer, list_url(Parked, query))


def test_the_page_of_a_message_says_that_it_is_parked(viewer: Client) -> None:
    """In the list, and with the reason on its own page; the filter finds it."""
    [head, _] = park("a")
    message = Message.objects.get(pk=head.position)
    text = shown(page(viewer, detail_url(message)))

    assert "parked" in text
    assert "unroutable" in text
    assert rows(viewer, list_url(Message, "?state=parked:default")) == [message]
    assert shown(page(viewer, detail_url(head))).count("Look at the message") == 1


def test_actions_need_permissions(viewer: Client) -> None:
    """Who may only look sees no action, and what he sends all the same does nothing."""
    [head, _] = park("a")
    assert "Try again now" not in page(viewer, list_url(Parked))
    act(viewer, "discard", head)
    act(viewer, "requeue", head)

    head.refresh_from_db()
    assert (head.state, head.attempts) == ("parked", 1)
    assert not LogEntry.objects.exists()


def test_requeue_is_an_action(viewer: Client) -> None:
    """Attempts start again, and who did it is written down."""
    [head, behind] = park("a")
    permit("requeue_parked")
    text = act(viewer, "requeue", head, behind)

    head.refresh_from_db()
    assert "1 parked message is due now: the relay tries it with its next turn." in text
    left = "1 waiting: it goes on by itself when the first of its key is settled."
    assert f"Left alone: {left}" in text
    history = client_history(viewer, head)
    assert "Requeued" in history
    assert (head.state, head.attempts) == ("parked", 0)
    assert {entry.user.username for entry in LogEntry.objects.all()} == {"viewer"}


def test_discard_is_an_action(viewer: Client) -> None:
    """It never gets published, what waited goes on, and who did it is written down."""
    [head, behind] = park("a")
    permit("discard_parked")
    text = act(viewer, "discard", head)

    head.refresh_from_db()
    behind.refresh_from_db()
    assert "1 parked message is discarded." in text
    assert (head.state, head.settled_by) == ("discarded", "viewer")
    assert behind.state == "parked"
    assert LogEntry.objects.get().object_id == str(head.pk)


@pytest.mark.parametrize(
    ("action", "changed"),
    [("requeue", ("dead", "parked")), ("discard", ("dead", "parked", "waiting"))],
)
def test_only_what_changed_is_written_down(
    viewer: Client, action: str, changed: tuple[str, ...]
) -> None:
    """A row that is settled, or that the action means nothing to, was selected in vain."""
    parked = park("a", "b", "c", "d")
    rows = {row.state: row for row in parked if row.key == "a"}
    for state, key in (("dead", "b"), ("published", "c"), ("discarded", "d")):
        [rows[state]] = (row for row in parked if row.key == key and row.state == "parked")
        Parked.objects.filter(pk=rows[state].pk).update(state=state)
    permit(f"{action}_parked")
    act(viewer, action, *rows.values())

    assert len(rows) == 5
    written = {entry.object_id: entry.change_message for entry in LogEntry.objects.all()}
    what = {"requeue": "Requeued.", "discard": "Discarded."}[action]
    assert written == {str(rows[state].pk): what for state in changed}


def test_what_the_relay_settles_meanwhile_is_not_written_down(viewer: Client) -> None:
    """The action waits for the relay's transaction, and sees what became of the message."""
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has one writer at a time")
    [head, _] = park("a")
    permit("discard_parked")
    with sessions(1) as [other]:
        with transaction.atomic():
            assert open_log("default", using="default").acquire(head.lane) is not None
            Parked.objects.filter(pk=head.pk).update(state="published")
            acting = other.start(act, viewer, "discard", head)
            until(waiting_for_lock)
        text = acting.result(30)

    head.refresh_from_db()
    assert "Left alone: 1 published: that is settled." in text
    assert "is discarded" not in text
    assert head.state == "published"
    assert not LogEntry.objects.exists()


# --- The way of a message -------------------------------------------------------------------


def test_the_way_of_a_message_has_its_durations(viewer: Client) -> None:
    """From emitted to published, by each relay."""
    [message] = commit()
    publish()
    text = shown(page(viewer, detail_url(message)))

    way = text.partition("The way it took")[2]
    assert way.index("emitted") < way.index("default published")
    assert "after it was emitted" in way


def test_what_became_of_a_parked_message_are_two_steps(viewer: Client) -> None:
    """That it was parked and why, then how it was settled and by whom."""
    [head, _] = park("a")
    message = Message.objects.get(pk=head.position)
    assert "default parked 1 attempt" in shown(page(viewer, detail_url(message)))
    discard(Parked.objects.filter(pk=head.pk), by="somebody")

    way = shown(page(viewer, detail_url(message))).partition("The way it took")[2]
    assert way.index("default parked") < way.index("unroutable") < way.index("default discarded")
    assert "in somebody" not in way
    assert "by somebody" in way

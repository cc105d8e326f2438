"""What the outbox itself shows on the overview and on the page about storage."""

import re
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.db.models import F
from django.test import Client, override_settings

import outbox
from inbox.models import Receipt
from outbox.admin.pages import storage
from outbox.extensions import pruning
from outbox.extensions import storage as stored
from outbox.models import Message, Scheduled
from outbox.reports.tables import tables
from tests.kit.admin_pages import ALL_MODELS, counted, list_url, log_in, page, rows, shown
from tests.kit.support import Counted
from tests.relay.test_retention import commit, park, publish, relays

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]
OVERVIEW = "/admin/django_outbox/messaging/overview/"
STORAGE = "/admin/django_outbox/messaging/storage/"
postgresql = pytest.mark.skipif("connection.vendor != 'postgresql'", reason="about PostgreSQL")


@pytest.fixture(autouse=True)
def one_relay() -> Iterator[None]:
    with override_settings(OUTBOX={"LANES": 2}, RELAYS=relays("mine")):
        yield


def schedule(count: int) -> None:
    with transaction.atomic():
        for number in range(count):
            outbox.emit(Counted("a", number), delay=timedelta(hours=1))


def test_what_is_scheduled_and_late(client: Client) -> None:
    """The figure leads to the list that shows exactly what is late."""
    log_in(client, "django_outbox.scheduled")
    schedule(3)
    address = f"{OVERVIEW}?section=scheduled"
    assert "nothing 3 scheduled, due or not" in shown(page(client, address))

    late = Scheduled.objects.earliest("pk")
    Scheduled.objects.filter(pk=late.pk).update(due_at=F("due_at") - timedelta(hours=3))
    text = page(client, address)

    assert "2 h 3 scheduled, due or not" in shown(text)
    assert "outbox-figure-bad" in text
    link = list_url(Scheduled, "?due=late")
    assert f'href="{link}"' in text
    assert rows(client, link) == [late]


def test_findings_come_with_what_is_well(client: Client) -> None:
    """The broker, too, is told about: it was asked."""
    log_in(client, *ALL_MODELS)

    text = shown(page(client, f"{OVERVIEW}?section=findings", counts=True))
    assert "Findings" in text
    assert "What is well" in text
    assert "Clock" in text


def test_findings_are_for_those_who_may_view_what_they_tell_of(client: Client) -> None:
    """They name handlers, keys and hosts, and say what went wrong; of whom nobody knows, all."""
    Receipt.objects.create(
        handler="billing.secret", source="/s", message_id="1", state="dead", error="ValueError: sad"
    )
    park()
    some = {"django_outbox.message", "django_outbox.scheduled"}
    relay = {"django_outbox.message", "django_relay.checkpoint", "django_relay.parked"}
    for labels, inbox_too, relay_too in (
        (some, False, False),
        (some | relay, False, True),
        ({*ALL_MODELS} - relay | {"django_outbox.message"}, True, False),
        ({*ALL_MODELS}, True, True),
    ):
        User.objects.all().delete()
        log_in(client, *labels)
        text = shown(page(client, f"{OVERVIEW}?section=findings", counts=True))
        assert ("billing.secret" in text) is inbox_too
        assert ("is parked" in text) is relay_too
        assert ("left out" in text) is not (inbox_too and relay_too)


@postgresql
def test_tables_are_told_with_estimates(client: Client) -> None:
    """Those that the user may look at; nothing is counted."""
    log_in(client, "django_outbox.message", "django_relay.checkpoint")
    commit(5)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE django_outbox_message")

    text = shown(page(client, f"{STORAGE}?section=tables"))
    assert "Messages django_outbox_message 5 " in text
    assert "Checkpoints django_relay_checkpoint" in text
    assert "django_inbox_receipt" not in text


@postgresql
def test_a_table_that_was_never_looked_at_has_no_estimate() -> None:
    """Rather than 0; nor is there a size of what does not exist."""
    [found] = tables([Message], "default")
    assert found.index_bytes > 0
    assert tables([], "default") == []


def test_sizes_are_not_known_of_sqlite(client: Client) -> None:
    """It tells none, and the page says so."""
    log_in(client, "django_outbox.message")
    text = shown(page(client, f"{STORAGE}?section=tables"))

    assert ("This database does not tell." in text) == (connection.vendor == "sqlite")


def retention(client: Client) -> str:
    log_in(client, "django_outbox.message")
    return shown(page(client, f"{STORAGE}?section=retention", counts=True))


def make_old() -> None:
    Message.objects.update(time=F("time") - timedelta(days=9))


def test_what_is_young_is_well(client: Client) -> None:
    """Kept for so long, the oldest is so old."""
    commit(1)
    text = retention(client)

    assert re.search(r"messages 7 d \d+ s", text)
    assert "late" not in text
    assert "held back" not in text


def test_what_may_go_and_is_there_is_late(client: Client) -> None:
    """Nobody runs who deletes it."""
    commit(1)
    publish()
    make_old()

    assert "9 d" in (text := retention(client))
    assert "late It may be deleted, and nobody has done it yet" in text


def test_what_is_not_published_is_held_back(client: Client) -> None:
    """By which relay."""
    commit(1)
    make_old()

    assert "held back for relay mine it is pending" in retention(client)


def test_what_is_parked_is_held_back(client: Client) -> None:
    """Until a person has seen to it."""
    park()
    make_old()

    assert "held back for relay mine it is parked" in retention(client)


def test_without_relays_everything_is_held_back(client: Client) -> None:
    """Nothing has been published, then."""
    commit(1)
    make_old()
    with override_settings(RELAYS={}):
        assert "held back no relay is in RELAYS" in retention(client)


def test_without_retention_it_grows_for_ever(client: Client) -> None:
    """Which one may want."""
    with override_settings(OUTBOX={"RETENTION": None}):
        assert "messages ever - grows for ever" in retention(client)


def test_statements(client: Client) -> None:
    """Of the page about storage: a few for each kind of row, whatever there is of it."""
    log_in(client, *ALL_MODELS)
    commit(1)
    publish()
    _, few = counted(client, STORAGE, counts=True)
    commit(50)
    publish(size=1)
    text, many = counted(client, STORAGE, counts=True)

    assert "cannot be shown" not in text
    assert many <= few + 2  # of the lane that has only now a chain
    assert few <= 45


def test_a_registered_model_is_shown_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if it is registered again, as when the server reloads."""
    monkeypatch.setattr(stored, "_models", [])
    stored.register_tables(Message, Scheduled)
    stored.register_tables(Message)

    assert stored.stored_models() == (Message, Scheduled)


def test_what_others_prune_may_tell_nothing_of_its_oldest_row(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then there is nothing to say but how long it is kept."""
    monkeypatch.setattr(pruning, "_pruners", dict(pruning._pruners))
    pruning.register_pruner("others", lambda using, *, before, limit: 0)

    assert "others 7 d - -" in retention(client)
    assert storage.LIMIT == 1.0


@pytest.mark.parametrize("use_tz", [True, False])
@pytest.mark.parametrize("name", ["overview", "traffic", "storage", "doings"])
def test_times_are_those_of_the_settings(client: Client, name: str, use_tz: bool) -> None:
    """Whatever they say, each page has all that it shows, and names the zone."""
    with override_settings(USE_TZ=use_tz, TIME_ZONE="Australia/Lord_Howe"):
        log_in(client, "admin.logentry", *ALL_MODELS)
        commit(3)
        publish()
        LogEntry.objects.log_actions(
            user_id=User.objects.get().pk,
            queryset=[Message.objects.latest("pk")],
            action_flag=CHANGE,
            change_message="Done.",
        )
        text = page(client, f"/admin/django_outbox/messaging/{name}/", counts=True)

    assert "cannot be shown" not in text
    assert "Times are in Australia/Lord_Howe." in text
    assert text.count("<time ") >= 1
    if name == "doings":
        assert "Done." in text

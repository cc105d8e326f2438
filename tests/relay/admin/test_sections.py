"""What the relay shows on the overview, and on the pages about traffic and storage."""

import re
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.db import connection
from django.db.models import F
from django.test import Client, override_settings

from outbox.models import Message
from outbox.producer.wakeup import CHANNEL
from outbox.reports.history import DAY
from outbox.runtime.identity import process_name
from relay.models import Checkpoint, Parked
from relay.parking.people import discard
from relay.reports import gauges
from relay.reports.processes import processes
from relay.reports.throughput import by_relay, published
from tests.kit.admin_pages import ALL_MODELS, counted, list_url, log_in, page, rows, shown
from tests.kit.sessions import sessions
from tests.relay.reports.test_status import make_older
from tests.relay.test_retention import commit, park, publish, relays

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]
OVERVIEW = "/admin/django_outbox/messaging/overview/"
TRAFFIC = "/admin/django_outbox/messaging/traffic/"
STORAGE = "/admin/django_outbox/messaging/storage/"
postgresql = pytest.mark.skipif("connection.vendor != 'postgresql'", reason="about PostgreSQL")


@pytest.fixture(autouse=True)
def one_relay() -> Iterator[None]:
    with override_settings(OUTBOX={"LANES": 2}, RELAYS=relays("mine")):
        yield


@pytest.fixture
def viewer(client: Client) -> Client:
    log_in(client, *ALL_MODELS)
    return client


def section(client: Client, page_url: str, name: str) -> str:
    # Sessions are counted, which are few, and up to one message that may be deleted.
    return page(client, f"{page_url}?section={name}", counts=name in ("connections", "retention"))


def linked(text: str, url: str) -> bool:
    return f'href="{url.replace("&", "&amp;")}"' in text


def test_what_is_pending(viewer: Client) -> None:
    """How old the oldest is and how many there are; the link shows exactly those."""
    commit(3)
    publish(size=100)
    text = section(viewer, OVERVIEW, "relay-figures")
    assert "Oldest pending nothing 0 messages are pending" in shown(text)
    assert "outbox-figure-open" not in text

    commit(2)
    Message.objects.update(time=F("time") - timedelta(minutes=2))
    text = section(viewer, OVERVIEW, "relay-figures")

    assert "2 min 2 messages are pending" in shown(text)
    assert "outbox-figure-open" in text
    link = list_url(Message, "?state=pending%3Amine")
    assert linked(text, link)
    assert len(rows(viewer, link)) == 2


def test_of_several_relays_the_one_that_is_furthest_behind(viewer: Client) -> None:
    """Its messages are those that the link shows."""
    with override_settings(RELAYS=relays("mine", "other")):
        commit(1)
        publish("mine")
        Message.objects.update(time=F("time") - timedelta(minutes=2))
        text = section(viewer, OVERVIEW, "relay-figures")
        link = list_url(Message, "?state=pending%3Aother")

        assert linked(text, link)
        assert len(rows(viewer, link)) == 1


def test_what_is_parked(viewer: Client) -> None:
    """Dead or waiting; the link shows exactly those."""
    park()
    text = section(viewer, OVERVIEW, "relay-figures")

    assert "Parked 3 0 dead, 2 wait behind others of their key" in shown(text)
    assert linked(text, list_url(Parked))
    assert len(rows(viewer, list_url(Parked))) == 3
    Parked.objects.filter(state="parked").update(state="dead")
    assert "outbox-figure-bad" in section(viewer, OVERVIEW, "relay-figures")


def test_figures_are_those_of_the_metrics(viewer: Client) -> None:
    """One query, one truth."""
    commit(7)
    pending = sum(each.value for each in gauges.read("default") if each.gauge is gauges.PENDING)

    assert pending == 7
    assert "7 messages are pending" in shown(section(viewer, OVERVIEW, "relay-figures"))


def test_much_is_not_counted_to_its_end(viewer: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond a number it is more than that."""
    for module in ("relay.reports.status", "relay.reports.gauges"):
        monkeypatch.setattr(f"{module}.COUNTED", 5)
    for module in ("relay.admin.pages.overview", "relay.admin.pages.reading"):
        monkeypatch.setattr(f"{module}.COUNTED", 5)
    commit(9)

    assert "5+ messages are pending" in shown(section(viewer, OVERVIEW, "relay-figures"))


def test_the_state_of_a_relay(viewer: Client) -> None:
    """Never run, well, behind, standing still; when it was there last, and which process."""
    text = shown(section(viewer, OVERVIEW, "relays"))
    assert "mine nothing published yet 0 - 0.0 - -" in text
    commit(1)
    publish()
    text = shown(section(viewer, OVERVIEW, "relays"))
    assert re.search(rf"mine well 0 - 0\.0 \d+ s ago {re.escape(process_name())}", text)
    commit(1)
    Message.objects.update(time=F("time") - timedelta(minutes=2))
    assert "mine behind 1 2 min" in shown(section(viewer, OVERVIEW, "relays"))
    make_older(minutes=5)
    assert "mine stands still 1 7 min" in shown(section(viewer, OVERVIEW, "relays"))
    with override_settings(RELAYS=relays("other")):
        text = shown(section(viewer, OVERVIEW, "relays"))
    assert "mine not in RELAYS" in text
    assert "other stands still 2" in text


def test_throughput_is_told_by_relay(viewer: Client) -> None:
    """Committed, and published by each; the table has the numbers."""
    commit(5)
    publish("mine", size=2)
    with override_settings(RELAYS=relays("mine", "other")):
        publish("other", pages=1, size=2)
        text = section(viewer, OVERVIEW, "published")

    names = by_relay(published("default", DAY), ["mine", "third"])
    assert {name: sum(values) for name, values in names.items()} == {
        "mine": 5,
        "third": 0,
        "other": 2,
    }
    assert text.count("<svg") == 2
    assert "Committed Published by mine Published by other" in shown(text)
    assert re.search(r"<td data-label=\"Published by mine\">5</td>", text)
    assert re.search(r"<td data-label=\"Committed\">5</td>", text)
    assert "Estimated" not in text


def test_lanes(viewer: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each by itself; of many, those with the oldest messages."""
    commit(3)
    publish()
    commit(1)
    text = shown(section(viewer, TRAFFIC, "lanes"))
    lane = Message.objects.latest("pk").lane
    assert f"mine {lane} well 1" in text
    assert f"mine {1 - lane} nothing published yet 0" in text
    assert process_name() in text

    monkeypatch.setattr("relay.admin.pages.traffic.SHOWN", 1)
    text = shown(section(viewer, TRAFFIC, "lanes"))
    assert f"mine {lane} well 1" in text
    assert f"mine {1 - lane} " not in text
    assert "Of 2 lanes, those with the oldest messages." in text


def test_processes(viewer: Client) -> None:
    """Who has published lately, since when and until when; and who is quiet."""
    commit(4)
    publish(size=1)
    host, pid = process_name().rsplit(":", 1)
    text = shown(section(viewer, TRAFFIC, "processes"))
    assert re.search(rf"{re.escape(host)} {pid} mine published lately \d 4 ", text)
    Checkpoint.objects.filter(previous=0).update(published_by="<b>without a number")
    make_older(minutes=5)

    found = {each.name: each for each in processes("default")}
    assert found["<b>without a number"].pid == ""
    assert found[process_name()].count == 3
    text = section(viewer, TRAFFIC, "processes")
    assert "quiet" in text
    assert "<b>without" not in text


@postgresql
def test_connections(viewer: Client) -> None:
    """Who is connected to the database; those that listen for messages first."""
    with sessions(1) as [session]:
        session.run(lambda: connection.cursor().execute("LISTEN something_else"))
        text = shown(section(viewer, TRAFFIC, "connections"))
        session.run(lambda: connection.cursor().execute(f'LISTEN "{CHANNEL}"'))
        heard = shown(section(viewer, TRAFFIC, "connections"))

    assert "listens for messages" not in text
    assert "listens for messages, as relays do 1 0" in heard


@postgresql
def test_who_holds_vacuum_back(viewer: Client) -> None:
    """A transaction by its session and query, without the values in it."""
    assert "pg_sleep" not in shown(section(viewer, STORAGE, "pins"))  # others may be at work
    with sessions(1) as [session]:
        session.begin()
        session.run(lambda: connection.cursor().execute("SELECT 'secret', pg_sleep(1.1)"))
        text = shown(section(viewer, STORAGE, "pins"))

    assert "idle in transaction" in text
    assert "pg_sleep(?)" in text
    assert "secret" not in text


def test_statements(viewer: Client) -> None:
    """A few for each lane, whatever the size of log and history."""
    commit(1)
    publish()
    few = {url: counted(viewer, url, counts=True)[1] for url in (OVERVIEW, TRAFFIC)}
    for key in "abcdef":
        commit(10, key=key)
    publish(pages=10, size=2)
    for url in (OVERVIEW, TRAFFIC):
        text, many = counted(viewer, url, counts=True)
        assert "cannot be shown" not in text
        assert many <= few[url] + 3  # of the lane that has only now a chain
    assert few[OVERVIEW] <= 80
    assert few[TRAFFIC] <= 55


def test_who_may_see_less_sees_less(client: Client) -> None:
    """Each section needs all of what it shows."""
    log_in(client, "django_relay.checkpoint")
    text = page(client, OVERVIEW)

    assert "Relays" in text
    for hidden in ("To be published", "Committed and published", "Findings"):
        assert hidden not in text
    assert client.get(f"{TRAFFIC}?section=lanes").status_code == 404
    assert client.get(f"{TRAFFIC}?section=processes").status_code == 200


def test_old_checkpoints_and_settled_rows_are_late(viewer: Client) -> None:
    """Those that stay for good are not: the first and the newest of a chain."""
    park()
    discard(Parked.objects.all(), by="test")
    make_older(days=9)
    Parked.objects.update(settled_at=F("settled_at") - timedelta(days=20))
    text = shown(section(viewer, STORAGE, "retention"))
    assert "checkpoints 7 d - well" in text
    assert re.search(r"parked 7 d 20 d \S+ \S+ late", text)

    commit(4)
    publish(size=1)
    make_older(days=9)
    assert re.search(
        r"checkpoints 7 d 9 d \S+ \S+ late", shown(section(viewer, STORAGE, "retention"))
    )

"""What the inbox shows on the overview and on the page about traffic."""

import re
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import transaction
from django.test import Client, override_settings
from django.utils import timezone

import outbox
from inbox.models import Binding, DeadLetter, Receipt
from inbox.reports.throughput import emitted, percentile, received, seconds
from outbox.message.ids import uuid7_text
from outbox.reports.history import DAY
from tests.inbox.reports.test_gauges import letters, made, receipts
from tests.inbox.support import Handling, Queue, fail, happened, receive
from tests.kit.admin_pages import ALL_MODELS, counted, list_url, log_in, page, rows, shown
from tests.kit.support import Counted

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db]
OVERVIEW = "/admin/django_outbox/messaging/overview/"
TRAFFIC = "/admin/django_outbox/messaging/traffic/"
STORAGE = "/admin/django_outbox/messaging/storage/"


@pytest.fixture
def viewer(client: Client) -> Client:
    log_in(client, *ALL_MODELS)
    return client


def section(client: Client, page_url: str, name: str) -> str:
    return page(client, f"{page_url}?section={name}")


def bind(group: str = "g", *, seen_ago: timedelta = timedelta(0), **about: Any) -> None:
    Binding.objects.create(
        **{
            "group": group,
            "queue": f"queue-{group}",
            "exchange": "events",
            "topic": f"t{Binding.objects.count()}",
            "declared": timezone.now(),
            "seen": timezone.now() - seen_ago,
            **about,
        }
    )


def test_what_is_not_handled(viewer: Client, handling: Handling) -> None:
    """Retrying, dead, dead letters: each a link to the list that shows exactly those."""
    handling(name="charge")
    receipts("dead", "dead", "retrying", "waiting", "processed", "discarded", handler="charge")
    letters("dead", "discarded")
    text = section(viewer, OVERVIEW, "inbox-figures")

    assert "Retrying 1 tried again by themselves; 1 wait behind them" in shown(text)
    assert "Dead 2 wait for a person" in shown(text)
    assert "Dead letters 1 no handler can use them" in shown(text)
    for model, state, count in (
        (Receipt, "retrying", 1),
        (Receipt, "dead", 2),
        (DeadLetter, "dead", 1),
    ):
        link = list_url(model, f"?state={state}")
        assert f'href="{link}"' in text
        assert len(rows(viewer, link)) == count


def test_what_is_overdue_is_bad(viewer: Client, handling: Handling) -> None:
    """Nobody handles what is due."""
    handling(name="charge")
    due = timezone.now() - timedelta(minutes=5)
    receipts("retrying", handler="charge", next_attempt_at=due)
    text = section(viewer, OVERVIEW, "inbox-figures")

    assert "Retrying 1 the oldest is due for 5 min" in shown(text)
    assert "outbox-figure-bad" in text


def test_dead_letters_are_for_who_may_see_them(client: Client) -> None:
    """The other figures are there all the same."""
    log_in(client, "django_inbox.receipt")
    text = section(client, OVERVIEW, "inbox-figures")

    assert "Retrying" in text
    assert "Dead letters" not in text


def test_groups(viewer: Client, handling: Handling) -> None:
    """Seen lately, seen long ago, never; and those that have no handlers any more."""
    handling()
    with override_settings(RELAYS={}):
        assert re.search(r"g never seen 1 - - -", shown(section(viewer, OVERVIEW, "groups")))
    bind()
    bind(unbound=timezone.now())
    bind("gone")
    text = shown(section(viewer, OVERVIEW, "groups"))
    assert re.search(r"g there 1 queue-g 1 20", text)
    assert "gone no handlers here 0 queue-gone 1 20" in text
    Binding.objects.update(seen=timezone.now() - timedelta(hours=2))
    assert "g not seen for long 1" in shown(section(viewer, TRAFFIC, "groups"))


def test_with_the_local_broker_a_relay_is_the_consumer(viewer: Client, handling: Handling) -> None:
    """Its sign of life is that of the group."""
    handling()
    local = {"BACKEND": "relay.brokers.local.LocalBroker"}
    with override_settings(RELAYS={"mine": local}):
        assert "g by relay mine 1 - - -" in shown(section(viewer, OVERVIEW, "groups"))


def test_handlers(viewer: Client, handling: Handling) -> None:
    """What each owes, those that owe most first; what is not in the code is told together."""
    handling(name="charge")
    handling(name="busy")
    receipts("dead", "dead", "retrying", handler="busy")
    receipts("dead", handler="gone")
    text = shown(section(viewer, TRAFFIC, "handlers"))

    assert "busy g 1 0 2" in text
    assert "charge g 0 0 0" in text
    assert "not in the code any more - 0 0 1" in text
    assert text.index("busy g") < text.index("charge g")


def test_received_and_handled(viewer: Client, handling: Handling) -> None:
    """By when a message came in, also if it was tried again; those that failed are not handled."""
    handling()
    receive(*(happened(number) for number in range(4)))
    handling(fail, name="fails")
    receive(happened(5))
    text = section(viewer, OVERVIEW, "handled")

    assert text.count("<svg") == 4
    assert '<td data-label="Received">6</td>' in text
    assert '<td data-label="Handled">5</td>' in text


def test_what_was_tried_again_counts_when_it_came_in() -> None:
    """And not when it was handled at last."""
    now = timezone.now()
    early, late = now - timedelta(hours=5, minutes=30), now - timedelta(minutes=1)
    Receipt.objects.bulk_create(
        [
            made(1, message_id="1", received=early, changed=late),
            made(2, message_id="2", received=early, changed=late),
            made(3, message_id="3", changed=late),
        ]
    )

    assert [len(step.rows) for step in received("default", DAY)] == [*[0] * 18, 2, *[0] * 4, 1]


def test_the_time_since_a_message_was_emitted(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the log of this service; of another's messages their id says it, or nothing does."""
    with transaction.atomic():
        mine = outbox.emit(Counted("a", 1))
    now = timezone.now()
    ids = (mine.id, uuid7_text(), str(uuid4()), "no uuid")
    Receipt.objects.bulk_create(
        made(n, message_id=each, source=f"/{n}", changed=now + timedelta(seconds=7))
        for n, each in enumerate(ids)
    )
    monkeypatch.setattr("outbox.reports.history.instants.now", lambda: now + timedelta(seconds=10))
    steps = received("default", DAY)
    times = emitted(steps, "default")
    *_, last = steps

    assert len(last.rows) == 4
    assert times.keys() == set(ids[:2])
    assert times[mine.id] == mine.time
    assert seconds(last, times) == pytest.approx([7, 7], abs=2)


def test_clocks_that_disagree_give_no_negative_time() -> None:
    """A message that was handled before it was emitted took no time."""
    early = timezone.now() - timedelta(hours=1)
    Receipt.objects.bulk_create([made(1, message_id=uuid7_text(), changed=early)])
    steps = received("default", DAY)
    times = emitted(steps, "default")

    assert [each for step in steps for each in seconds(step, times)] == [0]


@pytest.mark.parametrize(
    ("numbers", "part", "found"),
    [([], 0.5, None), ([3.0], 0.95, 3.0), ([1.0, 2.0, 3.0, 4.0], 0.5, 2.0)],
)
def test_percentiles(numbers: list[float], part: float, found: float | None) -> None:
    """The number that this part does not exceed, of those that there are."""
    assert percentile(numbers, part) == found
    assert percentile([float(n) for n in range(1, 101)], 0.95) == 95


def test_queues(viewer: Client, queue: Queue, handling: Handling) -> None:
    """What the broker says: how many messages wait, who consumes, and what is missing."""
    handling()
    with override_settings(INBOX={"URL": queue.url}):
        assert f"{queue.name} missing - -" in shown(section(viewer, TRAFFIC, "queues"))
        queue.declare()
        queue.publish(happened(1), happened(2))
        assert f"{queue.name} nobody consumes it 2 0" in shown(section(viewer, TRAFFIC, "queues"))
        with queue.channel() as channel:
            channel.basic_consume(queue.queue, callback=lambda message: None)
            text = shown(section(viewer, TRAFFIC, "queues"))
    assert f"{queue.name} consumed 0 1" in text  # both are in hand


def test_a_broker_that_is_away(viewer: Client, handling: Handling) -> None:
    """The section says so, without the password; the page waits for nothing of it."""
    handling()
    away = {"URL": "amqp://guest:s3cret@127.0.0.1:1//"}
    with override_settings(INBOX=away):
        text = section(viewer, TRAFFIC, "queues")
        assert "It cannot be shown" in text
        assert "s3cret" not in text
        assert "It cannot be shown" not in page(viewer, TRAFFIC, counts=True)


def test_statements(viewer: Client, handling: Handling) -> None:
    """The same for few and for many rows."""
    handling(name="charge")
    receipts("processed", handler="charge")
    few = {url: counted(viewer, url, counts=True)[1] for url in (OVERVIEW, TRAFFIC)}
    receipts(*["processed", "dead"] * 100, handler="charge")
    for number in range(50):
        bind(f"g{number}")
    for url in (OVERVIEW, TRAFFIC):
        text, many = counted(viewer, url, counts=True)
        assert "cannot be shown" not in text
        assert many <= few[url] + 2  # which log has the messages, once there are any


def test_what_is_over_for_long_is_late(viewer: Client) -> None:
    """Receipts and dead letters that may be deleted, and still are there."""
    receipts("processed", "dead", changed=timezone.now() - timedelta(days=40))
    letters("discarded")
    text = shown(section(viewer, STORAGE, "retention"))
    assert re.search(r"receipts 30 d 40 d \S+ \S+ late It may be deleted", text)
    assert re.search(r"dead letters 30 d \d+ s \S+ \S+ well", text)

    Receipt.objects.filter(state="processed").delete()
    assert "receipts 30 d - well" in shown(section(viewer, STORAGE, "retention"))

"""What the lists of the admin have in common: short ids, names of tasks, links, filters, times."""

import re
from datetime import UTC, datetime

import pytest
from django.db import transaction
from django.test import Client
from django.utils import timezone

import outbox
from inbox.django_tasks.conf import PREFIX
from inbox.models import Binding, DeadLetter, Receipt
from outbox.admin_support.envelopes import DJANGO_TASK
from outbox.celery import OutboxCelery
from outbox.models import Message, Scheduled
from relay.log import open_log
from relay.models import Checkpoint, Parked
from relay.transfer import transfer
from tests.kit.admin_pages import (
    counted,
    detail_url,
    list_url,
    page,
    rows,
    shown,
)
from tests.kit.support import RecordingBroker, Registered

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db]

TYPE = f"{DJANGO_TASK}admin"
FUNCTION = "shop.tasks.remind"
EXACT = (
    r'<time datetime="[-0-9]{10}T[:0-9]{8}\.\d{3}[+]00:00" '
    r'title="[-0-9]{10} [:0-9]{8}\.\d{6}[+]00:00">[-0-9]{10} [:0-9]{8}</time>'
)


@pytest.fixture(autouse=True)
def _types(registered: Registered) -> None:
    registered(TYPE)
    registered("admin.order.placed")


def enqueued(**options: object) -> Message | Scheduled:
    """The message of a task of Django's, as its backend emits it."""
    with transaction.atomic():
        envelope = outbox.emit(TYPE, {"task": FUNCTION}, subject=FUNCTION, **options)
    model = Scheduled if options else Message
    return model._default_manager.get(message_id=envelope.id)


def parked(message: Message | Scheduled) -> Parked:
    assert isinstance(message, Message)
    return Parked.objects.create(
        relay="default",
        lane=message.lane,
        position=message.pk,
        message_id=message.message_id,
        type=message.type,
        topic=message.topic,
        state="parked",
        reason="refused",
        error="no",
        parked_at=timezone.now(),
    )


def dead_letter() -> DeadLetter:
    number = str(DeadLetter.objects.count())
    about = {"group": "g", "reason": "undecodable", "headers": "{}"}
    return DeadLetter.objects.create(digest=number, message_id=f"letter-{number}", **about)


def receipt(message: Message | Scheduled) -> Receipt:
    about = {"message_id": str(message.message_id), "source": message.source, "type": TYPE}
    return Receipt.objects.create(handler=TYPE, **about)


def test_tasks_of_django_are_listed_by_their_function(viewer: Client) -> None:
    """In the log, among the scheduled and the parked, and with their receipts."""
    assert DJANGO_TASK == PREFIX
    message, _ = enqueued(), enqueued(delay=60)
    assert isinstance(message, Message)
    parked(message)
    receipt(message)

    for model in (Message, Scheduled, Parked, Receipt):
        assert f"{FUNCTION} Django" in shown(page(viewer, list_url(model)))


def test_a_task_that_the_log_has_lost_is_listed_by_its_type(viewer: Client) -> None:
    """There is nothing else to call it by."""
    message = enqueued()
    assert isinstance(message, Message)
    receipt(message)
    Message.objects.all().delete()

    assert f"{TYPE} Django" in shown(page(viewer, list_url(Receipt)))


@pytest.mark.parametrize("model", [Parked, Receipt])
def test_names_of_tasks_cost_one_statement(model: type[Parked | Receipt], viewer: Client) -> None:
    """However many are listed; none if there are no tasks."""
    numbers = [counted(viewer, list_url(model))[1]]
    for count in (1, 9):
        for _ in range(count):
            message = enqueued()
            assert isinstance(message, Message)
            (parked if model is Parked else receipt)(message)
        numbers.append(counted(viewer, list_url(model))[1])

    none, one, ten = numbers
    assert (one, ten) == (none + 1, none + 1)


def test_tasks_of_celery_are_listed_by_their_function(viewer: Client) -> None:
    """Not by the type that all of them have."""
    with transaction.atomic():
        OutboxCelery("admin", set_as_current=False).send_task(FUNCTION)

    assert f"{FUNCTION} Celery" in shown(page(viewer, list_url(Message)))


def test_an_id_is_whole_on_hover_and_when_copied(viewer: Client) -> None:
    """It is the style that shortens it."""
    message = enqueued()
    assert isinstance(message, Message)
    found = receipt(message)
    whole = found.message_id

    assert f'<code class="outbox-id" title="{whole}"><bdi>{whole}</bdi></code>' in page(
        viewer, list_url(Receipt)
    )


def test_filters_say_what_they_are_set_to(viewer: Client) -> None:
    """Each by itself, above the list; all can be cleared at once."""
    text = page(viewer, list_url(Receipt, "?state=dead"))

    assert "State: dead" in shown(text).replace(" : ", ": ")
    assert "Reason: All" in shown(text).replace(" : ", ": ")
    assert "Clear all filters" in text
    assert "Clear all filters" not in page(viewer, list_url(Receipt))


@pytest.mark.parametrize("model", [Parked, DeadLetter])
def test_the_list_of_what_waits_for_a_person_begins_with_what_is_open(
    model: type[Parked | DeadLetter], viewer: Client
) -> None:
    """What is over is a choice of the filter, and a search finds it."""
    made = [dead_letter(), dead_letter()]
    if model is Parked:
        made = [parked(message) for message in (enqueued(), enqueued())]
    open_, over = made
    model._default_manager.filter(pk=over.pk).update(state="discarded")

    assert rows(viewer, list_url(model)) == [open_]
    assert rows(viewer, list_url(model, "?state=open")) == [open_]
    assert rows(viewer, list_url(model, "?state=all")) == [over, open_]
    assert rows(viewer, list_url(model, "?state=discarded")) == [over]
    assert rows(viewer, list_url(model, f"?q={over.message_id}")) == [over]
    for query, said in (("", "open"), ("?q=7", "All"), ("?state=nonsense", "open")):
        text = shown(page(viewer, list_url(model, query))).replace(" : ", ": ")
        assert f"State: {said} " in text, query


def test_open_receipts_are_one_choice(viewer: Client) -> None:
    """Those that are over are most of them, and what the list is looked at for as well."""
    for state in ("processed", "retrying", "waiting", "dead", "skipped", "discarded"):
        receipt(enqueued())
        Receipt.objects.filter(pk=Receipt.objects.latest("pk").pk).update(state=state)
    found = rows(viewer, list_url(Receipt, "?state=open"))

    assert [each.state for each in found] == ["dead", "waiting", "retrying"]
    assert len(rows(viewer, list_url(Receipt))) == 6


def test_the_zone_of_times_is_named(viewer: Client) -> None:
    """That of the project, which shows UTC."""
    assert "Times are in UTC." in page(viewer, list_url(Message))


@pytest.mark.django_db(transaction=True)
def test_times_are_to_the_second_everywhere(viewer: Client) -> None:
    """Lists and pages show the same; all of it is on hover, and machine-readable."""
    moment = datetime(2031, 5, 6, 7, 8, 9, 123, tzinfo=UTC)
    message, due = enqueued(), enqueued(deliver_at=moment)
    assert isinstance(message, Message)
    transfer(open_log("default", using="default"), RecordingBroker(), message.lane, 100)
    parked(message)
    receipt(message)
    Parked.objects.update(parked_at=moment, settled_at=moment, state="published")
    Receipt.objects.update(received=moment, changed=moment)
    dead_letter()
    DeadLetter.objects.update(received=moment)
    Binding.objects.create(group="g", queue="q", exchange="e", topic="t", declared=moment)

    for model in (Message, Scheduled, Checkpoint, Parked, Receipt, DeadLetter, Binding):
        [row] = model._default_manager.all()
        query = "?state=all" if model is Parked else ""
        for url in (list_url(model, query), detail_url(row)):
            text = page(viewer, url)
            assert re.search(EXACT, text), url
            assert not re.search(r"\d\d:\d\d:\d\d\.\d", shown(text)), url
    assert (
        '<time datetime="2031-05-06T07:08:09.000+00:00"'
        ' title="2031-05-06 07:08:09.000123+00:00">2031-05-06 07:08:09</time>'
    ) in page(viewer, detail_url(due))


def test_the_link_to_a_row_is_text(viewer: Client) -> None:
    """And no badge, which does not look like a link."""
    message = enqueued()
    assert isinstance(message, Message)
    for row in (parked(message), receipt(message)):
        text = page(viewer, list_url(type(row)))
        assert f'<a href="{detail_url(row)}"><span class="outbox-named">' in text

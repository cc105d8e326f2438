"""The facts are those of the database."""

import threading
import uuid

import pytest
from django.core.management import call_command

from outbox.models import Message
from project.billing.factories import InvoiceFactory
from project.billing.models import Entry
from project.demo.facts import gather
from project.demo.reconcile import PLACED, Effect, Event, reconcile
from project.demo.truth import Truth
from project.demo.writers import Writer
from project.shipping.models import Shipment
from project.shop.factories import OrderFactory
from relay.models import Checkpoint

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.sqlite]


@pytest.fixture
def truth() -> Truth:
    """What a writer knows that has placed and changed some orders; nothing is published yet."""
    truth = Truth()
    writer = Writer("test", seed=7, truth=truth, stop=threading.Event())
    writer._stop_requested.set()  # slow transactions are not slow here
    for number in range(40):
        writer.place(f"test-{number}")
        writer.change()
    return truth


@pytest.fixture
def handled(truth: Truth, capsys) -> Truth:
    """The same when everything is published and handled."""
    call_command("relay", "--until-empty")
    return truth


def test_before_the_relay_runs_everything_is_emitted_and_nothing_published(truth):
    """What the writers committed, and nothing of what they rolled back, is in the log."""
    report = reconcile(gather(truth))

    assert truth.rolled_back
    assert truth.undone
    assert report.emitted == len(truth.committed) > 40
    assert (report.published, report.handled, report.unfounded) == (0, 0, 0)
    assert report.lost == len(truth.committed) + 3 * report.committed


def test_after_the_relay_everything_is_handled(handled):
    """Each order has led to three more events, and the promises are kept."""
    report = reconcile(gather(handled))

    assert report.kept
    assert report.committed == len(handled.placed)
    assert report.emitted == report.published == report.handled
    assert report.emitted == len(handled.committed) + 3 * report.committed


def test_other_runs_do_not_count(handled):
    """Orders of others, published or not, change nothing."""
    before = gather(handled)
    other = OrderFactory.build()
    other.place()
    other.save()
    InvoiceFactory.create_batch(2, order_id=other.pk)

    assert gather(handled) == before


def test_a_message_that_vanished_is_lost(handled):
    """A row that is missing in the log shows."""
    Message.objects.filter(key=str(handled.placed[0]), type=PLACED).delete()

    report = reconcile(gather(handled))
    assert report.missing == {"shop.order.placed is not in the log": 1}


def test_what_no_checkpoint_covers_is_not_published(handled):
    """Without the newest checkpoints the tail of the log is unpublished again."""
    published = reconcile(gather(handled)).published
    for lane in set(Checkpoint.objects.values_list("lane", flat=True)):
        Checkpoint.objects.filter(lane=lane).latest("id").delete()

    report = reconcile(gather(handled))
    assert report.published < published
    assert report.lost == published - report.published


def test_effects_are_counted_in_the_tables_of_the_services(handled):
    """A second invoice, a missing shipment and an entry out of order are noticed."""
    first, second, third = handled.placed[:3]
    InvoiceFactory.create(order_id=first)
    Shipment.objects.filter(order_id=second).delete()
    entry = Entry.objects.filter(order_id=third).earliest("id")
    entry.delete()
    entry.pk = None
    entry.save()

    facts = gather(handled)
    report = reconcile(facts)
    assert facts.effects[Effect("billing.invoice", Event(first, PLACED, 1))] == 2
    assert report.effects_twice == 1
    assert report.missing == {"billing.invoice.issued is not handled by shipping.dispatch": 1}
    assert report.order_violations == 1


def test_an_order_that_was_rolled_back_must_have_no_events(handled):
    """A message of an order that the writer rolled back is unfounded."""
    ghost = OrderFactory.build(pk=next(iter(handled.rolled_back)))
    ghost.place()
    ghost.save()

    assert reconcile(gather(handled)).unfounded == 1


def test_nothing_tried_is_nothing_found(db):
    """A run that has not begun has empty facts."""
    report = reconcile(gather(Truth(placed=[uuid.uuid4()])))

    assert report.emitted == report.committed == report.lost == 0

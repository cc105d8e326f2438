"""The reconciliation finds what it is there to find."""

import json
import uuid
from collections import Counter
from dataclasses import replace

import pytest

from inbox.handlers.registry import handlers
from outbox.message.event_types import registry
from project.demo import reconcile as rules
from project.demo.reconcile import Effect, Event, Facts, reconcile, violations

pytestmark = pytest.mark.sqlite

ORDER = uuid.uuid4()
PLACED = Event(ORDER, rules.PLACED, 1)
PAID = Event(ORDER, rules.PAID, 2)
INVOICED = Event(ORDER, rules.INVOICE_ISSUED)
DISPATCHED = Event(ORDER, rules.SHIPMENT_DISPATCHED)
SHIPPED = Event(ORDER, rules.SHIPPED)
ALL = [PLACED, PAID, INVOICED, DISPATCHED, SHIPPED]


@pytest.fixture
def facts() -> Facts:
    """A run with one order in which everything went well."""
    return Facts(
        committed=frozenset({PLACED, PAID}),
        log=Counter(ALL),
        published=Counter(ALL),
        effects=Counter(Effect(h, event) for event in ALL for h in rules.HANDLERS[event.type]),
        account={ORDER: (1, 2, 3)},
        rolled_back=4,
        duplicates_suppressed=5,
    )


def without(counts, key):
    return Counter({name: count for name, count in counts.items() if name != key})


def test_a_good_run_keeps_every_promise(facts):
    """The writers' events and the three that follow from them are emitted, published, handled."""
    report = reconcile(facts)

    assert report.kept
    assert report.as_dict() == {
        "committed": 1,
        "rolled_back": 4,
        "emitted": 5,
        "published": 5,
        "handled": 5,
        "duplicates_suppressed": 5,
        "lost": 0,
        "effects_twice": 0,
        "order_violations": 0,
    }
    json.dumps(report.as_dict())


def test_a_run_that_did_not_finish_keeps_no_promise(facts):
    """Even if nothing is missing of what was written until then."""
    assert not replace(reconcile(facts), finished=False).kept


@pytest.mark.parametrize("event", ALL, ids=lambda event: event.type)
def test_a_committed_event_that_is_not_in_the_log_is_lost(facts, event):
    """Also one that should have followed."""
    report = reconcile(replace(facts, log=without(facts.log, event)))

    assert (report.lost, report.handled, report.emitted) == (1, 4, 4)
    assert report.missing == {f"{event.type} is not in the log": 1}
    assert not report.kept


def test_an_event_that_is_not_published_is_lost(facts):
    """Whatever became of it otherwise."""
    report = reconcile(replace(facts, published=without(facts.published, PAID)))

    assert (report.lost, report.published) == (1, 4)
    assert not report.kept


@pytest.mark.parametrize("handler", ["billing.invoice", "billing.account"])
def test_an_event_that_one_of_its_handlers_missed_is_lost(facts, handler):
    """Handled means by all handlers that want it."""
    report = reconcile(replace(facts, effects=without(facts.effects, Effect(handler, PLACED))))

    assert (report.lost, report.handled) == (1, 4)
    assert report.missing == {f"shop.order.placed is not handled by {handler}": 1}
    assert not report.kept


def test_an_effect_that_is_there_twice_is_reported(facts):
    """Each superfluous one counts."""
    effects = facts.effects + Counter({Effect("billing.invoice", PLACED): 2})
    report = reconcile(replace(facts, effects=effects))

    assert (report.effects_twice, report.lost) == (2, 0)
    assert not report.kept


def test_an_event_that_was_rolled_back_must_not_be_in_the_log(facts):
    """An event of an unknown order, or an unknown event of a known one, breaks the promise."""
    strangers = [Event(uuid.uuid4(), rules.PLACED, 1), Event(ORDER, rules.AMENDED, 3)]
    report = reconcile(replace(facts, log=facts.log + Counter(strangers)))

    assert report.unfounded == 2
    assert not report.kept


def test_disorder_in_an_account_is_reported(facts):
    """An event that was handled behind a later one of its order breaks the promise."""
    report = reconcile(replace(facts, account={ORDER: (1, 3, 2), uuid.uuid4(): (2, 1)}))

    assert report.order_violations == 2
    assert not report.kept


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ((), 0),
        ((1, 2, 3), 0),
        ((1, 3), 0),
        ((2, 1), 1),
        ((3, 1, 2), 2),
        ((1, 2, 1, 2, 3), 0),
    ],
)
def test_a_number_behind_a_higher_one_is_a_violation(numbers, expected):
    """A gap is a loss and a repetition is a double, neither is a matter of order."""
    assert violations(numbers) == expected


def test_the_table_of_handlers_is_that_of_the_services():
    """An event type or a handler that the services get and the demo ignores fails here."""
    services = ("shop.", "billing.", "shipping.")
    # Quotes are asked for and answered, and counted as such.
    asked = "billing.quote"
    types = {
        each.name
        for each in registry
        if each.name.startswith(services) and not each.name.startswith(asked)
    }

    assert types == set(rules.HANDLERS)
    for name in types:
        assert {found.name for found in handlers.for_type(name)} == set(rules.HANDLERS[name])


def test_an_order_whose_receipt_no_task_sent_is_lost(facts):
    """Where a worker was; without one, nobody expects receipts."""
    assert reconcile(facts).tasks_done is None
    assert reconcile(replace(facts, receipts={ORDER: 1})).kept

    report = reconcile(replace(facts, receipts={}))
    assert (report.lost, report.handled, report.tasks_done) == (1, 5, 0)
    assert report.missing == {"orders got no receipt from a task": 1}


def test_a_task_that_acted_twice_is_reported(facts):
    report = reconcile(replace(facts, receipts={ORDER: 3}))

    assert (report.effects_twice, report.lost) == (2, 0)
    assert not report.kept

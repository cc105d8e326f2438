"""Reconciliation, with no more rights than the page gives to a consumer."""

from collections.abc import Iterator

import pytest
from django.db import connection
from django.test import override_settings

from outbox.extensions import resending
from outbox.models import Break, Reconciliation
from outbox.statements.buckets import MINUTE
from outbox.statements.mending import repair
from relay.log import open_log
from relay.resend import RelayResending
from relay.transfer import transfer
from tests.acceptance.test_least_privilege import acting_as, names
from tests.inbox.statements.support import NOW, Both, breaks, emitted, reconciling
from tests.inbox.support import Handling
from tests.kit.support import RecordingBroker

__all__ = ["names"]  # a fixture

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has no users"),
]
RELAYS = {"default": {"BACKEND": "relay.brokers.local.LocalBroker"}}


@pytest.fixture
def both(handling: Handling) -> Iterator[Both]:
    """A sender and a group, with a relay that tells what it has published."""
    handling()
    with override_settings(RELAYS=RELAYS), reconciling() as found:
        resending.register_resending(RelayResending())
        yield found


def publish() -> None:
    log = open_log("default", using="default", start="beginning")
    while lanes := log.lanes_with_work(8):
        for lane in lanes:
            transfer(log, RecordingBroker(), lane, 100)
    log.flush()


def test_what_is_missing_is_found_with_the_rights_of_a_consumer(
    both: Both, names: dict[str, str]
) -> None:
    """Whether it was published it has to ask the tables of relays; it can publish it again, too."""
    with acting_as(names["consumer"]):
        both.round()
        Reconciliation.objects.update(stated=NOW + 60 * MINUTE, closed=NOW + 60 * MINUTE)
        sent = emitted(NOW, NOW + 1)
    publish()
    with acting_as(names["consumer"]):
        both.lost = {sent[1].id}
        both.settle()
        assert both.compare() == {"missing": [sent[1].id]}

        row = Break.objects.get()
        assert repair([row.pk], by="manage.py reconcile", using="default") == [row.pk]
        both.round()
        assert breaks("repaired") == {"missing": [sent[1].id]}

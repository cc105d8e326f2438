"""The page about acknowledgements, executed from top to bottom."""

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.test import override_settings

import outbox
from inbox.handlers.registry import handlers
from inbox.replies import taking
from outbox.message.event_types import registry
from outbox.models import Acknowledgement
from outbox.signals import unacknowledged
from outbox.states import Acknowledged, Hold
from outbox.testing import drain
from relay.brokers.local import LocalBroker
from relay.log import open_log
from relay.resending.turns import Resending
from relay.transfer import transfer
from tests.acceptance.test_docs import PYTHON, ROOT
from tests.inbox.support import Handling

PAGE = (ROOT / "docs/how-to/acknowledge.md").read_text()
DECLARE, EMIT, SIGNAL = PYTHON.findall(PAGE)

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def names() -> Iterator[dict[str, Any]]:
    """What the page defines, which is forgotten after the test."""
    types = list(registry)
    found: dict[str, Any] = {"__name__": "shop.events"}
    relays = {"default": {"BACKEND": "relay.brokers.local.LocalBroker"}}
    with override_settings(INBOX={"GROUP": "shop"}, RELAYS=relays):
        exec(DECLARE, found)
        taking.install()
        yield found
    handlers.remove(taking.NAME)
    for each in list(registry):
        if each not in types:
            registry.remove(each)


def test_the_page(
    names: dict[str, Any], handling: Handling, capsys: pytest.CaptureFixture[str]
) -> None:
    """Billing handles it, and says so; shipping is not there, and somebody is told."""
    handling(lambda event, message: None, pattern="shop.parcel.packed", declared_group="billing")
    exec(EMIT, names)
    assert "billing awaited None 0" in capsys.readouterr().out
    drain()
    states = {each.group: each.state for each in outbox.acknowledgements(names["message"].id)}
    assert states == {"billing": "handled", "shipping": "awaited"}

    exec(SIGNAL, names)
    try:
        handling(lambda event, message: None, name="x", pattern="x", declared_group="shipping")
        broker = LocalBroker.from_settings("", {}, using="default")
        _publish(broker)
        row = Acknowledgement.objects.get(group="shipping")
        assert row.due_at is not None
        Acknowledgement.objects.filter(pk=row.pk).update(
            resends=row.most, due_at=row.due_at - timedelta(hours=1)
        )
        Resending("default", "default", broker).turn()
    finally:
        unacknowledged.disconnect(names["call_them"])
    assert "shipping has not acknowledged 1 of shop.parcel.packed" in capsys.readouterr().out


def _publish(broker: LocalBroker) -> None:
    log = open_log("default", using="default", start="beginning")
    while lanes := log.lanes_with_work(4):
        for lane in lanes:
            transfer(log, broker, lane, 100)


@pytest.mark.parametrize(
    ("heading", "choices"), [("What a group tells", Acknowledged), ("What is not sent again", Hold)]
)
def test_the_tables_have_all_there_is(heading: str, choices: Any) -> None:
    table = PAGE.partition(f"## {heading}")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    assert [each for each in rows if each != "hold"] == choices.values

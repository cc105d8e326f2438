"""The page about requests, executed from top to bottom."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import transaction
from django.test import override_settings

import inbox
import outbox
from inbox.handlers.registry import handlers
from inbox.models import Receipt
from inbox.replies import taking
from inbox.states import State
from outbox.message.event_types import registry
from outbox.models import Settlement
from outbox.states import Outcome
from outbox.testing import drain
from tests.acceptance.test_docs import PYTHON, ROOT

PAGE = (ROOT / "docs/how-to/ask.md").read_text()
DECLARE, ASK, ANSWER, WAIT, GO_ON, LATER, PROGRESS = PYTHON.findall(PAGE)

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]


@contextmanager
def declared() -> Iterator[dict[str, Any]]:
    """What the page defines, which is forgotten afterwards."""
    before = {each.name for each in handlers}, list(registry)
    found: dict[str, Any] = {"__name__": "pricing.handlers"}
    with override_settings(INBOX={"GROUP": "shop"}):
        exec(DECLARE, found)
        taking.install()
        yield found
    for name in {each.name for each in handlers} - before[0]:
        handlers.remove(name)
    for each in list(registry):
        if each not in before[1]:
            registry.remove(each)


@pytest.fixture
def names() -> Iterator[dict[str, Any]]:
    with declared() as found:
        yield found


def test_the_page(names: dict[str, Any]) -> None:
    exec(ANSWER, names)
    exec(ASK, names)
    assert names["asked"].state() == "pending"
    exec(GO_ON, names)
    drain()
    exec(WAIT, names)
    assert Receipt.objects.get(handler="pricing.go_on").state == State.PROCESSED
    assert names["answer"] == names["QuoteGiven"](19)
    with transaction.atomic():
        declined = outbox.ask(names["Quote"](-1))
    drain()
    assert declined.result().why == "There is no such basket."


def test_an_answer_that_is_given_later(names: dict[str, Any]) -> None:
    names |= {"inbox": inbox, "transaction": transaction}
    exec(LATER, names)
    with transaction.atomic():
        asked = outbox.ask(names["Discount"](1))
    drain()
    assert asked.state() == "pending"
    exec(PROGRESS, names)
    names["rate"](asked.id, 40, 100)
    drain()
    found = asked.progress()
    assert found is not None
    assert (found.done, found.text) == (0.4, "rated 40 of 100")
    names["decide"](asked.id, 7)
    with pytest.raises(outbox.UnknownRequest):
        names["decide"](asked.id, 8)
    drain()
    assert asked.result() == names["QuoteGiven"](7)


def test_the_table_has_all_states() -> None:
    table = PAGE.partition("## How it ends")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    assert rows == ["pending", *Outcome.values]
    assert Settlement._meta.get_field("outcome").choices == Outcome.choices

"""The page about reconciliation: its settings are settings, and its commands run."""

import shlex
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.management import load_command_class
from django.db.models import F
from django.test import override_settings
from django.utils import timezone

from inbox.conf import inbox_settings
from outbox.checks import check_reconcile
from outbox.doctor import examine
from outbox.statements import measures
from outbox.statements.conf import peers
from outbox.states import BreakKind
from tests.acceptance.test_docs import PYTHON, ROOT
from tests.testapp.models import Effect

PAGE = (ROOT / "docs/how-to/reconcile.md").read_text()
SENDER, RECEIVER, MEASURE, COMPARE = PYTHON.findall(PAGE)

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db]


def test_the_settings_of_the_page() -> None:
    """Both sides' are read, and no check objects."""
    names: dict[str, Any] = {}
    exec(SENDER, names)
    exec(RECEIVER, names)
    with override_settings(RECONCILE=names["RECONCILE"], INBOX=names["INBOX"]):
        assert check_reconcile() == []
        assert timedelta(minutes=5) == peers()["billing"].EVERY
        assert inbox_settings().STATEMENTS


def test_the_business_totals_of_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is declared adds up an event, and finds what is in the books."""
    monkeypatch.setattr(measures, "measures", {})
    monkeypatch.setattr(measures, "compares", {})
    for number, currency in enumerate(("EUR", "EUR", "SEK"), start=1):
        Effect.objects.create(key=currency, number=number, message_id=f"m{number}", handler="h")

    class Invoice:
        objects = Effect.objects.annotate(currency=F("key"), cents=F("number"))

    names: dict[str, Any] = {"Invoice": Invoice}
    exec(MEASURE, names)
    exec(COMPARE, names)
    event = SimpleNamespace(currency="EUR", cents=1999)
    assert measures.measures["shop.order.placed"](event) == {"EUR": 1999}
    now = timezone.now()
    window = measures.Window(
        source="/shop",
        type="shop.order.placed",
        since=now,
        until=now,
        message_ids=["m1", "m2", "m3", "m4"],
    )
    assert measures.compares["shop.order.placed"](window) == {"EUR": 3, "SEK": 3}


def test_the_commands_of_the_page() -> None:
    """Each is one that the command takes."""
    parser = load_command_class("outbox", "reconcile").create_parser("manage.py", "reconcile")
    lines = [line for line in PAGE.splitlines() if line.startswith("$ manage.py reconcile")]
    assert len(lines) == 3
    for line in lines:
        parser.parse_args(shlex.split(line)[3:])


def test_the_page_names_every_kind_and_finding() -> None:
    """As the code has them."""
    assert all(f"| `{kind.value}` |" in PAGE for kind in BreakKind)
    with override_settings(RECONCILE={"billing": {}}):
        found = {each.id for each in examine("default")}
    assert "outbox.statements" in found
    assert "`outbox.statements`" in PAGE
    assert "`outbox.breaks`" in PAGE

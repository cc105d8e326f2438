"""The carriers of the page, as they stand."""

import sys
from typing import Any

import pytest
from django.db import transaction

import outbox
from outbox import context
from tests.acceptance.test_docs import PYTHON, ROOT
from tests.inbox.support import Handling, happened, receive
from tests.kit.support import Counted

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_tenant_reaches_the_handler(handling: Handling, monkeypatch: pytest.MonkeyPatch) -> None:
    """And is gone when it is over; those that are shipped are registered."""
    assert {"sentry", "structlog"} <= set(context._carriers)
    monkeypatch.setattr(context, "_carriers", dict(context._carriers))
    names: dict[str, Any] = {"__name__": "shop.carriers"}
    for block in PYTHON.findall((ROOT / "docs/how-to/carry.md").read_text()):
        exec(block, names)
    seen: list[str] = []
    handling(lambda event, message: seen.append(names["tenant"].get()))

    token = names["tenant"].set("acme")
    with transaction.atomic():
        message = outbox.emit(Counted("k", 1))
    names["tenant"].reset(token)
    receive(happened(attributes=message.attributes), happened())

    assert message.attributes["tenant"] == "acme"
    assert seen == ["acme", None]
    assert context._carriers["structlog"]._names == ("request_id", "tenant")


def test_what_is_not_used_is_not_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that the project does not use costs nothing."""
    for name in ("sentry_sdk", "structlog.contextvars"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    assert context.taken() == {}
    assert not {"sentry_sdk", "structlog.contextvars"} & set(sys.modules)

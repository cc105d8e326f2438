"""The documentation says what the code does."""

import dataclasses
import os
import re
import sys
from decimal import Decimal
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import django
import pytest
from asgiref.sync import async_to_sync
from django.core.exceptions import SynchronousOnlyOperation
from django.core.management import call_command
from django.db import connection, connections, transaction
from django.test import Client, RequestFactory, override_settings
from django_tenants.postgresql_backend.base import DatabaseWrapper

import outbox
from inbox.conf import InboxSettings
from inbox.django_tasks.conf import TaskOptions
from inbox.handlers.registry import handlers
from outbox.amqp.tls import TLSOptions
from outbox.api.conf import APISettings
from outbox.conf import OutboxSettings
from outbox.flow import wire
from outbox.flow.conf import FlowSettings, Peer, flow_settings
from outbox.message.event_types import registry
from outbox.models import Message
from outbox.webhooks.conf import WebhookSettings
from relay.brokers.amqp.options import AMQPOptions
from relay.brokers.webhook.options import WebhookOptions
from relay.conf import RelaySettings
from tests.inbox.support import happened, receive
from tests.kit.support import Counted, Registered
from tests.testapp.models import Effect

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")]
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    """Relative links of a page name files that exist."""
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text())
    missing = [
        link for link in links if "://" not in link and not (page.parent / link).resolve().exists()
    ]

    assert not missing


@pytest.mark.parametrize(
    "settings",
    [
        OutboxSettings,
        APISettings,
        RelaySettings,
        AMQPOptions,
        InboxSettings,
        TaskOptions,
        TLSOptions,
        FlowSettings,
        Peer,
        WebhookSettings,
        WebhookOptions,
    ],
    ids=lambda c: c.__name__,
)
def test_every_setting_is_documented(settings: type) -> None:
    """The reference names each key of each settings class."""
    page = (ROOT / "docs/reference/settings.md").read_text()

    assert [f.name for f in dataclasses.fields(settings) if f"`{f.name}`" not in page] == []


def test_every_system_check_is_documented_and_exists() -> None:
    """The ids in the reference are exactly those in the code."""
    code = "\n".join(
        path.read_text()
        for package in ("outbox", "relay", "inbox")
        for path in (ROOT / package).rglob("*.py")
    )
    pattern = r"((?:outbox|relay|inbox)\.[EW]\d{3})"
    documented = re.findall(rf"`{pattern}`", (ROOT / "docs/reference/checks.md").read_text())

    assert sorted(documented) == sorted(set(re.findall(rf'"{pattern}"', code)))


def test_every_finding_of_the_doctor_is_documented_and_exists() -> None:
    """The ids in the page on the doctor are exactly those that examiners use."""
    code = "\n".join(
        path.read_text()
        for package in ("outbox", "relay", "inbox")
        for path in (ROOT / package).rglob("*.py")
    )
    used = set(re.findall(r'id="((?:outbox|relay|inbox)\.[a-z_]+)"', code))
    for names in re.findall(r'^[A-Z_]+, [A-Z_, ]+ = (".*")$', code, re.MULTILINE):
        used |= set(re.findall(r'"((?:outbox|relay|inbox)\.[a-z_]+)"', names))
    used |= {f"{name}.unexamined" for name in ("outbox", "relay", "inbox")}
    page = (ROOT / "docs/how-to/doctor.md").read_text()
    documented = re.findall(r"`((?:outbox|relay|inbox)\.[a-z_]+)`", page)

    assert sorted(documented) == sorted(used)


@pytest.mark.django_db(transaction=True)
def test_the_examples_of_how_to_emit_run(registered: Registered) -> None:
    """Every block of docs/how-to/emit.md runs as it stands."""

    @dataclasses.dataclass
    class OrderPlaced:
        order_id: int
        total: Decimal

    registered("docs.order.placed", OrderPlaced, key="order_id")
    placed = []
    names = {
        "OrderPlaced": OrderPlaced,
        "dataclass": dataclasses.dataclass,
        "outbox": outbox,
        "total": Decimal("9.90"),
        "request": SimpleNamespace(headers={"X-Request-ID": "r-1"}),
        "order": SimpleNamespace(place=lambda: placed.append(outbox.current_context())),
    }
    blocks = PYTHON.findall((ROOT / "docs/how-to/emit.md").read_text())
    for block in blocks:
        # The example project has an event of the name that the page uses.
        exec(block.replace("shop.order.placed", "docs.order.placed"), names)
    registered.added.append(registry.named("shop.order.returned"))  # to be forgotten as well

    assert Message.objects.count() == 1000
    async_to_sync(names["view"])(None)
    assert Message.objects.count() == 1001
    assert [context.correlation_id for context in placed] == ["r-1"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("call", ["emit", "emit_many"])
def test_what_is_wrong_in_a_coroutine_is_said_with_the_recipe_of_the_page(call: str) -> None:
    """The error names the function that the page uses."""
    event = Counted("a", 1)

    async def emit() -> None:
        getattr(outbox, call)(event if call == "emit" else [event])

    async def open_transaction() -> None:
        with transaction.atomic():
            pass

    page = (ROOT / "docs/how-to/emit.md").read_text()
    with pytest.raises(outbox.OutboxError, match=r"await sync_to_async\(function\)\(\)"):
        async_to_sync(emit)()
    with pytest.raises(SynchronousOnlyOperation):
        async_to_sync(open_transaction)()
    assert "await sync_to_async(place)" in page
    assert not Message.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_the_examples_of_how_to_correlate_run(client: Client) -> None:
    """The middleware gives a request's messages their flow, and so does the block."""
    page = (ROOT / "docs/how-to/correlate.md").read_text()
    names: dict[str, Any] = {"outbox": outbox, "job_id": 7, "placed": []}
    names["order"] = SimpleNamespace(place=lambda: names["placed"].append(outbox.current_context()))
    for block in PYTHON.findall(page):
        exec(block, names)
    assert [context.correlation_id for context in names["placed"]] == ["7"]

    urls = "tests.outbox.test_middleware"
    with override_settings(MIDDLEWARE=names["MIDDLEWARE"], ROOT_URLCONF=urls):
        response = client.get("/", headers={"X-Request-ID": "r-1"})
    assert response.headers["X-Request-ID"] == "r-1"
    assert set(Message.objects.values_list("correlation_id", flat=True)) == {"r-1"}


@pytest.mark.django_db(transaction=True)
def test_the_examples_of_djangos_tasks_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's settings, tasks and calls work together, and results are what it says."""
    page = (ROOT / "docs/how-to/django-tasks.md").read_text()
    page = page.replace("from shop.models", "from project.shop.models")
    page = page.replace("from shop.tasks", "from docs_tasks")
    if django.VERSION < (6, 0):
        page = page.replace("from django.tasks", "from django_tasks")
    settings, functions, calls, results = PYTHON.findall(page)
    module = ModuleType("docs_tasks")
    monkeypatch.setitem(sys.modules, "docs_tasks", module)
    names: dict[str, Any] = {}
    exec(settings, names)

    with override_settings(TASKS=names["TASKS"]):
        exec(functions, vars(module))
        exec(calls, names)
        call_command("relay", "--until-empty", verbosity=0)
        exec(results, names)

        for line in results.splitlines()[1:]:
            expression, said = line.split("  # ")
            assert str(eval(expression, names)) == said.strip('"')
        names["order"].refresh_from_db()
        assert names["order"].reference == "closed"


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(connection.vendor != "postgresql", reason="needs PostgreSQL")
def test_the_examples_of_tenants_run() -> None:
    """Effects are in the schema of their tenant, receipts in that of the consumer."""
    plain, with_library, hook = PYTHON.findall((ROOT / "docs/how-to/tenants.md").read_text())
    tenants = ("docs_one", "docs_two")
    usual = connections["default"]

    def run(statement: str) -> list[Any]:
        with connections["default"].cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []

    for name in tenants:
        run(f"CREATE SCHEMA {name}")
        run(f"CREATE TABLE {name}.testapp_effect (LIKE public.testapp_effect INCLUDING ALL)")
    try:
        told: list[int] = []
        names: dict[str, Any] = {"Entry": Effect, "transaction": transaction, "told": told}

        def receive_all() -> None:
            for number, name in enumerate(tenants):
                data = f'{{"tenant":"{name}","number":{number}}}'
                message = happened(type="ledger.entry.booked", key=name, data=data.encode())
                [result] = receive(message, group=None)
                assert result.handled == 1

        exec(plain, names)
        receive_all()
        handlers.remove("ledger.book")
        connections["default"] = DatabaseWrapper(dict(usual.settings_dict), "default")
        exec(with_library, names)
        receive_all()
        for number, name in enumerate(tenants):
            assert run(f"SELECT number FROM {name}.testapp_effect") == [(number,), (number,)]
        assert run("SELECT count(*) FROM public.django_inbox_receipt") == [(4,)]
        assert not run("SELECT 1 FROM public.testapp_effect")
        handlers.remove("ledger.count")
        exec(hook, names)
        receive_all()
        assert told == [2, 2]
    finally:
        for name in ("ledger.book", "ledger.count", "ledger.tell"):
            handlers.remove(name)
        registry.remove(registry.named("ledger.entry.booked"))
        connections["default"].close()
        connections["default"] = usual
        for name in tenants:
            run(f"DROP SCHEMA {name} CASCADE")


@pytest.mark.django_db
def test_the_examples_of_the_flow_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service tells, and another asks it."""
    monkeypatch.setenv("FLOW_TOKEN", "one")
    monkeypatch.setenv("BILLING_TOKEN", "two")
    names: dict[str, Any] = {"os": os}
    for block in PYTHON.findall((ROOT / "docs/how-to/flow.md").read_text()):
        exec(block, names)

    [pattern] = names["urlpatterns"]
    assert pattern.callback(RequestFactory().get("/flow/")).status_code == 401
    with override_settings(FLOW=names["FLOW"]):
        assert list(flow_settings().peers) == ["billing"]
    # What is told by the one is what the other reads.
    asked = RequestFactory().get("/flow/", {"of": "x"}, headers={"Authorization": "Bearer one"})
    told = wire.decode(pattern.callback(asked).content)
    assert not told.half("billing")

"""The page on seams: each of its examples runs, and does what it says."""

import dataclasses
import os
import re
import uuid
from datetime import timedelta
from io import StringIO
from typing import Any

import msgspec
import pydantic
import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.core.management import call_command
from django.db import connection, transaction
from django.test import Client, override_settings
from django.utils import timezone
from rest_framework.test import APIRequestFactory, force_authenticate

import inbox
import outbox
from inbox.handlers.registry import Handler, handlers
from inbox.models import Receipt
from outbox.extensions import api, diagnosis, failures, flow, message_pages, pages, pruning
from outbox.filtering import qualifiers
from outbox.message.event_types import registry
from outbox.models import Message
from outbox.producer.writing import write_database
from project.shipping.models import Shipment
from project.shop.models import Order
from relay.log import PostgreSQLLog
from tests.acceptance.test_docs import PYTHON, ROOT
from tests.kit.admin_pages import detail_url, list_url, rows
from tests.kit.support import Counted

PAGE = (ROOT / "docs/extend.md").read_text()
BLOCKS = {
    title: PYTHON.findall(text)
    for title, text in re.findall(r"^## [^\n:]*: ([^\n]+)\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S)
}

pytestmark = pytest.mark.django_db(transaction=True)


def run(title: str, **names: Any) -> dict[str, Any]:
    """Execute the example of a section; return its names."""
    [block] = BLOCKS[title]
    names |= {"transaction": transaction, "outbox": outbox, "os": os}
    exec(block, names)
    return names


def forget(*names: str) -> None:
    """Forget event types."""
    for name in names:
        registry.remove(registry.named(name))


def test_every_section_has_its_test() -> None:
    """One example in each; the broker is that of a page of its own."""
    tests = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}

    assert {title.replace(" ", "_") for title in BLOCKS} <= tests
    assert [len(blocks) for blocks in BLOCKS.values()] == [1] * len(BLOCKS)


def test_brokers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The setting names the broker of the other page."""
    monkeypatch.setenv("REDIS_URL", "redis://localhost")
    page = (ROOT / "docs/how-to/write-a-broker.md").read_text()

    assert run("brokers")["RELAYS"]["default"]["BACKEND"] in page


def test_sources() -> None:
    """What is handed over is handled once."""
    handled: list[str] = []

    def handle(event: object, message: outbox.Envelope) -> None:
        handled.append(message.id)

    handlers.add(Handler(name="docs.bank", pattern="bank.paid", function=handle))
    try:
        for _ in range(2):
            run("sources", delivery="d-1", body=b"{}")
    finally:
        handlers.remove("docs.bank")

    assert handled == ["d-1"]
    assert Receipt.objects.get().source == "/bank"


@pytest.mark.skipif(connection.vendor != "postgresql", reason="it is about PostgreSQL's")
def test_databases() -> None:
    """The adapter fits the database, and looks."""
    names = run("databases")

    assert isinstance(names["log"], PostgreSQLLog)
    assert names["lanes"] == []


def test_routers() -> None:
    """The outbox is where the router says, and nothing else is."""
    router = run("routers")["LedgerRouter"]()

    with override_settings(DATABASE_ROUTERS=[router]):
        assert write_database() == "ledger"
    assert router.db_for_write(Order) is None


def test_classes() -> None:
    """Each kind can be emitted, and is refused if its data are wrong."""
    names = run("classes", dataclasses=dataclasses, msgspec=msgspec, pydantic=pydantic)
    try:
        with transaction.atomic():
            for name in ("ParcelPacked", "ParcelSent", "ParcelLost"):
                outbox.emit(names[name](parcel_id=7))
            with pytest.raises(outbox.InvalidEvent):
                outbox.emit(names["ParcelSent"](parcel_id="seven"))
    finally:
        forget("shop.parcel.packed", "shop.parcel.sent", "shop.parcel.lost")

    assert [each.key for each in Message.objects.order_by("position")] == ["7", "7", "parcel:7"]


def test_content_types() -> None:
    """The bytes are in the log as they are."""
    try:
        run("content types")
    finally:
        forget("shop.label.printed")

    message = Message.objects.get()
    assert (bytes(message.data), message.content_type) == (b"%PDF-1.7", "application/pdf")


def test_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command tells what the reporter does."""
    monkeypatch.setattr(flow, "_reporters", {})
    with transaction.atomic():
        placed = outbox.emit(Counted("7", 1))
    run("stages")

    out = StringIO()
    call_command("flow", "show", placed.id, stdout=out)
    assert out.getvalue().splitlines()[-1] == "     … carrier: on its way"


def test_failures(monkeypatch: pytest.MonkeyPatch, client: Client) -> None:
    """The page shows them in a group, and that has a page of its own."""
    monkeypatch.setattr(failures, "_sources", {})
    long_ago = timezone.now() - timedelta(days=8)
    for _ in range(2):
        Shipment.objects.create(order_id=uuid.uuid4(), dispatched=long_ago)
    run("failures", Shipment=Shipment, timezone=timezone, timedelta=timedelta)
    client.force_login(User.objects.create_superuser("root"))

    text = client.get("/admin/django_outbox/messaging/failures/").content.decode()
    assert "Nobody has received …." in text
    [link] = re.findall(r'href="([^"]*/parcels/[0-9a-f]{32}/)"', text)
    assert "Nobody has received" in client.get(link).content.decode()
    out = StringIO()
    call_command("failures", stdout=out)
    assert "2 late" in out.getvalue()


def test_the_doctor(monkeypatch: pytest.MonkeyPatch) -> None:
    """The finding is among those of the doctor."""
    monkeypatch.setattr(diagnosis, "_examiners", {})
    run("the doctor", Order=Order)

    [finding] = diagnosis.examine("default")
    assert (finding.level, finding.id) == (diagnosis.Level.OK, "shop.orders")


def test_pruners(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is older than its window goes, by the command."""
    monkeypatch.setattr(pruning, "_pruners", {})
    for days in (0, 3):
        expired = timezone.now() - timedelta(days=days)
        Session.objects.create(session_key=f"expired-{days}", expire_date=expired)
    run("pruners", Session=Session, timedelta=timedelta)

    call_command("outbox_prune", verbosity=0)
    assert [each.session_key for each in Session.objects.all()] == ["expired-0"]


def test_panels(monkeypatch: pytest.MonkeyPatch, client: Client) -> None:
    """The page of a message has the table."""
    monkeypatch.setattr(message_pages, "_extensions", [])
    run("panels")
    with transaction.atomic():
        outbox.emit(Counted("parcel-7", 1))
    client.force_login(User.objects.create_superuser("root"))

    text = client.get(detail_url(Message.objects.get())).content.decode()
    assert "Parcel" in text
    assert "parcel-7" in text
    assert "collected" in text


def test_pages_and_sections(monkeypatch: pytest.MonkeyPatch, client: Client) -> None:
    """The page has the section, for who may view its models."""
    monkeypatch.setattr(pages, "_sections", dict(pages._sections))
    run("pages and sections", Session=Session)
    client.force_login(User.objects.create_superuser("root"))

    text = client.get("/admin/django_outbox/messaging/overview/?section=parcels").content.decode()
    assert "On their way" in text


def test_qualifiers(monkeypatch: pytest.MonkeyPatch, client: Client) -> None:
    """A filter of the list finds by it."""
    found = {model: dataclasses.replace(each) for model, each in qualifiers._declared.items()}
    found[Message] = dataclasses.replace(found[Message], qualifiers=dict(found[Message].qualifiers))
    monkeypatch.setattr(qualifiers, "_declared", found)
    run("qualifiers")
    with transaction.atomic():
        outbox.emit_many(
            outbox.Draft(event=Counted("a", n), attributes={"tenant": str(n)}) for n in range(3)
        )
    client.force_login(User.objects.create_superuser("root"))

    [message] = rows(client, list_url(Message, "?q=tenant:2"))
    assert message.attributes == {"tenant": "2"}


def test_resources(monkeypatch: pytest.MonkeyPatch) -> None:
    """It answers whoever may view the model, and refuses others."""
    monkeypatch.setattr(api, "_modules", dict(api._modules))
    names = run("resources", Order=Order)
    view = names["Unpaid"].as_view({"get": "list"})
    request = APIRequestFactory().get("/")
    Order.objects.create(customer="c", total=1)

    assert "shop.api" in api.resource_modules()
    for allowed, user in (
        (200, User.objects.create_superuser("root")),
        (403, User.objects.create_user("somebody")),
    ):
        force_authenticate(request, user)
        response = view(request)
        assert response.status_code == allowed
        assert allowed == 403 or response.data == {"orders": 1}


def test_hooks() -> None:
    """The hook of a handler runs when its effects have committed."""
    outbox.register("shop.label.printed")
    printed: list[str] = []
    try:
        run("hooks", inbox=inbox, printed=printed)
        with transaction.atomic():
            outbox.emit("shop.label.printed", {}, key="7")
        call_command("relay", "--until-empty", verbosity=0)
    finally:
        forget("shop.label.printed")
        handlers.remove("shop.tell")

    assert printed == ["7"]

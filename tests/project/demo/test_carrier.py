"""Two projects with two databases: the services of the shop, and the carrier."""

import re
import signal
import time
import uuid
from collections.abc import Iterator
from decimal import Decimal
from html import unescape
from http.cookiejar import CookieJar
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, build_opener

import pytest
from django.core.management import call_command
from django.db import transaction
from django.test import override_settings

from outbox.models import Message
from project.demo.carrier import Carrier
from project.demo.processes import ManageProcess
from project.demo.site import HOST, LOGIN, Site, add_login, free_port
from project.demo.waiting import wait_until
from project.shop.models import Order
from tests.kit.admin_pages import shown

pytestmark = [
    pytest.mark.slow,
    pytest.mark.django_db(transaction=True),
    pytest.mark.timeout(300),
]


class Admin:
    """Somebody who has logged in to the admin of a project, as a browser does."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._opener = build_opener(HTTPCookieProcessor(CookieJar()))
        token = re.search(r'csrfmiddlewaretoken" value="([^"]+)', self._get("/admin/login/"))
        assert token is not None
        form = {"csrfmiddlewaretoken": token[1], "username": LOGIN, "password": LOGIN}
        self._get("/admin/login/?next=/admin/", urlencode(form).encode())

    def conversation(self, name: str) -> str:
        """Return what the page of a conversation says."""
        page = self._get(f"/admin/django_outbox/messaging/flow/?of={name}")
        assert "Which message caused which" in page
        return unescape(shown(page))

    def _get(self, path: str, body: bytes | None = None) -> str:
        with self._opener.open(self.url + path, body, timeout=30) as answer:
            return str(answer.read().decode())


@pytest.fixture
def carrier() -> Iterator[Carrier]:
    port = free_port(18000)
    with (
        override_settings(DEBUG=True),  # as in the processes
        Carrier(port + 1, peers={"shop": f"http://{HOST}:{port}"}) as found,
    ):
        yield found


def place(carrier: Carrier, log: Path) -> tuple[uuid.UUID, str]:
    """Have an order placed, invoiced, dispatched and collected; return it and its first message."""
    order = Order(customer="Ann", total=Decimal(7))
    with transaction.atomic():
        order.place()
        order.save()
    call_command("relay", "--until-empty")
    environment = carrier.environment | {"DJANGO_SETTINGS_MODULE": "project.settings"}
    relay = ManageProcess("relay", "--relay", "carrier", "--until-empty", log=log, env=environment)
    assert wait_until(lambda: carrier.parcels([order.pk]) == {order.pk: 1}, 60), log.read_text()
    relay.finish()
    first = Message.objects.get(type="shop.order.placed", key=str(order.pk))
    return order.pk, str(first.message_id)


def test_each_project_shows_both_halves_of_a_conversation(
    carrier: Carrier, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And while the other one hangs, is dead, and is back, its page says so within a second."""
    add_login()
    order, placed = place(carrier, tmp_path / "log")
    port = int(carrier._own["PEERS"].rpartition(":")[2])
    environment = carrier.environment | {"DJANGO_SETTINGS_MODULE": "project.settings"}
    with Site(port, environment):
        shop = Admin(f"http://{HOST}:{port}")
        wait_until(lambda: "carrier.announce: processed" in shop.conversation(placed), 30)

        words = shop.conversation(placed)
        assert "5 messages" in words
        assert "shipping.dispatch : processed" in words
        assert "carrier ▸ carrier.collect: processed" in words
        assert "carrier ▸ carrier.announce: processed" in words
        tree = words[words.index("Which message caused which") :]
        assert tree.index("shipping.shipment.dispatched") < tree.index("carrier.parcel.collected")

        theirs = Admin(carrier.url).conversation(placed)
        assert "5 messages" in theirs
        assert "shop ▸ billing.invoice: processed" in theirs
        assert "carrier.collect : processed" in theirs

        carrier.site.signal(signal.SIGSTOP)
        started = time.monotonic()
        words = shop.conversation(placed)
        waited = time.monotonic() - started
        carrier.site.signal(signal.SIGCONT)
        assert "carrier did not tell: it did not answer in time" in words
        assert "shipping.dispatch : processed" in words
        carrier.site.kill()
        started = time.monotonic()
        words = shop.conversation(placed)
        assert "carrier did not tell: ConnectionRefusedError" in words
        rest = time.monotonic() - started
        assert waited - rest < 1.2, (waited, rest)  # all beside the peer takes as long

        carrier.start_site()
        assert wait_until(carrier.is_up, 60)
        assert "carrier ▸ carrier.collect: processed" in shop.conversation(placed)
    assert carrier.parcels([order]) == {order: 1}


def test_only_who_has_the_token_hands_over_messages(carrier: Carrier) -> None:
    """Nobody else, and nothing that is no message."""
    import http.client  # noqa: PLC0415 - only here, raw requests

    def post(path: str, body: bytes, **headers: str) -> int:
        link = http.client.HTTPConnection(HOST, int(carrier.url.rpartition(":")[2]), timeout=30)
        link.request("POST", path, body, headers)
        status = link.getresponse().status
        link.close()
        return status

    token = {"Authorization": f"Bearer {carrier.environment['FLOW_TOKEN']}"}
    assert post("/messages/", b"{}") == 401
    assert post("/parcels/", b"[]", Authorization="Bearer x") == 401
    assert post("/messages/", b"{}", **token) == 400
    for nonsense in (b"", b"{", b"7", b'["x"]', b'[{"a": 1}]'):
        assert post("/parcels/", nonsense, **token) == 400


def test_its_migrations_are_complete(tmp_path: Path) -> None:
    """Its models are in no other project's settings, whose check would tell."""
    log = tmp_path / "log"
    check = ManageProcess(
        "makemigrations",
        "--check",
        log=log,
        env={
            "DJANGO_SETTINGS_MODULE": "project.carrier.settings",
            "DATABASE_URL": "sqlite://:memory:",
        },
    )
    check._process.wait(60)
    assert check._process.returncode == 0, log.read_text()
    check.finish()

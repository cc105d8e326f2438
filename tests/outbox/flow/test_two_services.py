"""Two services in two processes with two databases, and one conversation."""

import signal
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError

import pytest
from django.core.management import call_command
from django.db import transaction
from django.test import Client, override_settings

import outbox
from outbox.message.envelope import Envelope
from tests.kit.admin_pages import ALL_MODELS, log_in, page, shown
from tests.kit.processes import Process, run
from tests.kit.support import Counted

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]

TOKEN = "t0ken of billing"
HANDLE = """
import outbox
from inbox.models import Receipt
from django.db import transaction
from tests.kit.support import Counted
Receipt.objects.create(handler="billing.invoice", source="/shop", message_id={id!r},
    type="tests.counted", correlation_id={id!r})
Receipt.objects.create(handler="billing.book", source="/shop", message_id={id!r},
    type="tests.counted", correlation_id={id!r}, state="dead", error="no: token=hunter2")
with transaction.atomic(), outbox.use_context(correlation_id={id!r}, causation_id={id!r}):
    outbox.emit(Counted("42", 1))
"""


class Billing:
    """The second service."""

    def __init__(self, directory: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.environment = {
            "DATABASE_URL": f"sqlite:///{directory / 'billing.sqlite3'}",
            "DJANGO_SETTINGS_MODULE": "tests.outbox.flow.peer_settings",
        }
        self.run("migrate", "-v0")
        arguments = ("runserver", "--noreload", f"127.0.0.1:{self.port}")
        self.process = Process(*arguments, **self.environment)
        self.process.wait_for(self._answers)

    def run(self, *arguments: str) -> None:
        code, output = run(*arguments, **self.environment)
        assert code == 0, output

    def handles(self, message: Envelope) -> None:
        self.run("shell", "-c", HANDLE.format(id=message.id))

    @property
    def settings(self) -> dict[str, object]:
        url = f"http://127.0.0.1:{self.port}/flow/"
        return {"PEERS": {"billing": {"URL": url, "TOKEN": TOKEN}}}

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{self.port}/flow/", timeout=1)
        except HTTPError as error:
            error.close()
            return error.code == 401
        except OSError:
            return False
        return False


@pytest.fixture
def billing(tmp_path: Path) -> Iterator[Billing]:
    found = Billing(tmp_path)
    with found.process:
        yield found


@pytest.fixture(autouse=True)
def settings() -> Iterator[None]:
    with override_settings(OUTBOX={"SOURCE": "/shop"}):
        yield


def emit() -> Envelope:
    with transaction.atomic():
        return outbox.emit(Counted("42", 0))


def test_one_conversation_of_two_services(
    client: Client, billing: Billing, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the one has sent the other has handled, and what came of that; and then it is away."""
    placed = emit()
    billing.handles(placed)
    log_in(client, *ALL_MODELS)
    address = f"/admin/django_outbox/messaging/flow/?of={placed.id}"
    with override_settings(FLOW=billing.settings):
        text = page(client, address)
        words = shown(text)
        assert "2 messages 1 failed" in words
        assert "billing ▸ billing.invoice: processed" in words
        assert "billing ▸ billing.book: dead" in words
        assert "token=•••" in words
        assert "hunter2" not in text
        assert TOKEN not in text
        tree = words[words.index("Which message caused which") :]
        assert tree.index("/shop") < tree.index("/billing")

        call_command("flow", "show", placed.id)
        out, err = capsys.readouterr()
        assert err == ""
        assert "✗ billing ▸ billing.book: dead" in out
        assert "from /billing" in out
        call_command("flow", "show", placed.id, "--no-peers")
        assert "billing" not in capsys.readouterr().out

        billing.process.send(signal.SIGSTOP)
        try:
            assert "billing did not tell: it did not answer in time" in shown(page(client, address))
        finally:
            billing.process.send(signal.SIGCONT)
        billing.process.send(signal.SIGKILL)
        billing.process.wait()

        words = shown(page(client, address))
        assert "billing did not tell: ConnectionRefusedError" in words
        assert "1 message " in words
        call_command("flow", "show", placed.id)
        assert capsys.readouterr().err.startswith("billing did not tell: ConnectionRefusedError")


def test_a_wrong_token(client: Client, billing: Billing) -> None:
    """The other service tells nothing, and this one says so."""
    placed = emit()
    billing.handles(placed)
    log_in(client, *ALL_MODELS)
    flow = billing.settings
    flow["PEERS"]["billing"]["TOKEN"] = "another"  # type: ignore[index]
    with override_settings(FLOW=flow):
        text = page(client, f"/admin/django_outbox/messaging/flow/?of={placed.id}")

    assert "billing did not tell: it refuses our token" in text
    assert "another" not in text

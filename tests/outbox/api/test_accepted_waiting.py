"""Wait for the answer, behind the commit, as long as is preferred and may be (RFC 7240)."""

import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection, transaction

from outbox.api import accepted
from outbox.models import Request
from outbox.replies.asked import Asked
from outbox.testing import drain
from tests.kit.waiting import until
from tests.outbox.api.quoting import Quotes
from tests.outbox.api.test_accepted import KEY, Visitor

pytestmark = [
    pytest.mark.sqlite,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("_quoting"),
]


@pytest.fixture(autouse=True)
def _nobody_is_left() -> Iterator[None]:
    yield
    assert accepted._waiting == 0


@pytest.fixture
def visitor() -> Visitor:
    return Visitor("visitor")


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Answer whoever waits, before they do; the seconds for which they would have waited."""
    waited: list[float] = []
    wait = Asked.wait

    def answered(asked: Asked, timeout: float) -> str:
        assert not connection.in_atomic_block
        assert Request.objects.filter(message_id=asked.id).exists()
        waited.append(timeout)
        drain()
        return wait(asked, timeout)

    monkeypatch.setattr(Asked, "wait", answered)
    return waited


def test_the_result_comes_in_time(visitor: Visitor, waits: list[float]) -> None:
    """200 with the result, at the address where it stays."""
    response = visitor.ask(Prefer="wait=5")
    assert waits == [5]
    assert response.status_code == 200
    assert response["Preference-Applied"] == "wait=5"
    assert response.json()["result"]["data"] == {"amount": 42}
    assert response.json() == visitor.get(response["Location"]).json()
    assert not response.has_header("Retry-After")


def test_it_comes_while_one_asks_how_it_stands(visitor: Visitor, waits: list[float]) -> None:
    """Who has seen that it is pending is told as soon as it is not."""
    response = visitor.ask()
    seen = {"If_None_Match": response["ETag"], "Prefer": "respond-async, wait=3"}
    said = visitor.get(response["Location"], **seen)
    assert (said.status_code, said.json()["state"]) == (200, "answered")
    assert said["Preference-Applied"] == "wait=3"
    assert visitor.get(response["Location"], Prefer="wait=3").json() == said.json()
    assert waits == [3]


def test_it_does_not_come_in_time(visitor: Visitor) -> None:
    """202 as without; and what was seen is still so."""
    response = visitor.ask(Prefer="wait=1")
    assert response.status_code == 202
    assert response["Preference-Applied"] == "wait=1"
    seen = {"If_None_Match": response["ETag"], "Prefer": "wait=1"}
    said = visitor.get(response["Location"], **seen)
    assert (said.status_code, said["Preference-Applied"]) == (304, "wait=1")


@pytest.mark.parametrize(
    ("preferred", "waited"),
    [("wait=600", [20]), ("wait=0", []), ("wait=soon", []), ("respond-async", []), ("\x00", [])],
)
def test_how_long(
    visitor: Visitor, waits: list[float], preferred: str, waited: list[float]
) -> None:
    """As long as the view lets one, and not at all for what is no time."""
    response = visitor.ask(Prefer=preferred)
    assert waits == waited
    assert response.has_header("Preference-Applied") is bool(waited)


def test_a_view_that_lets_nobody_wait(
    visitor: Visitor, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Quotes, "max_wait", 0)
    assert visitor.ask(Prefer="wait=5").status_code == 202
    assert waits == []


def test_more_than_may_wait(
    visitor: Visitor, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Are answered at once, and can ask again."""
    monkeypatch.setattr(Quotes, "max_waiting", 0)
    response = visitor.ask(Prefer="wait=5")
    assert response.status_code == 202
    assert not response.has_header("Preference-Applied")
    assert waits == []


def test_under_atomic_requests(
    visitor: Visitor, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The view has a transaction of its own, behind which it waits."""
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    response = visitor.ask(Prefer="wait=5")
    assert response.json()["state"] == "answered"
    assert waits == [5]


def test_in_a_transaction_of_somebody_else(
    visitor: Visitor, waits: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    """As of a middleware: what is asked is sent behind it, so nobody waits, and the log says so."""
    with caplog.at_level(logging.WARNING, "outbox"), transaction.atomic():
        response = visitor.ask(Prefer="wait=5")
    assert response.status_code == 202
    assert waits == []
    assert "Quotes does not wait for an answer: a transaction is around the view" in caplog.text


def test_asked_again_with_its_key(visitor: Visitor, waits: list[float]) -> None:
    """Who has lost the answer waits for it in the same way."""
    visitor.ask(**{KEY: "k"})
    said = visitor.ask(**{KEY: "k"}, Prefer="wait=2")
    assert (said.status_code, said.json()["state"]) == (200, "answered")
    assert Request.objects.count() == 1


@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="in memory it is one connection")
def test_who_waits_is_woken(visitor: Visitor) -> None:
    """By the settlement, long before the time is over."""
    found: list[Any] = []

    def run() -> None:
        try:
            found.append(visitor.ask(Prefer="wait=20"))
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    until(lambda: accepted._waiting == 1)
    drain()
    thread.join(15)
    assert not thread.is_alive()
    assert found[0].json()["state"] == "answered"


def test_wait(visitor: Visitor) -> None:
    """Asked.wait() returns the state, whether it has ended or not."""
    asked = Asked(id=visitor.ask().json()["id"])
    assert asked.wait(0.05) == "pending"
    drain()
    assert asked.wait(5) == "answered"

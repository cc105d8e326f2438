"""Asking over HTTP with what no client should send, and with hooks that answer oddly."""

import json
from typing import Any

import pytest
from django.test import Client

from outbox.api.accepted import AcceptedView
from outbox.models import Request
from tests.outbox.api.test_accepted import Visitor, problem

pytestmark = [
    pytest.mark.sqlite,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("_quoting"),
]
BODY = b'{"basket_id": 21}'


@pytest.fixture
def visitor() -> Visitor:
    return Visitor("visitor")


def post(visitor: Visitor, body: bytes, content_type: str = "application/json") -> Any:
    client: Client = visitor.client
    return client.generic("POST", "/shop/quotes", body, content_type=content_type)


@pytest.mark.parametrize(
    "charset", ["rot13", "zlib", "hex", "undefined", "bogus", "utf-16", "latin-1", "utf-8", "\xff"]
)
def test_a_charset_says_nothing(visitor: Visitor, charset: str) -> None:
    """JSON is UTF-8 (RFC 8259), whatever codecs Python has."""
    response = post(visitor, BODY, f"application/json; charset={charset}")
    assert response.status_code == 202


@pytest.mark.parametrize(
    "body",
    [b"", b"\xff", b"{", b"[" * 100_000, b'{"basket_id": NaN}', b'{"basket_id": 1' + b"0" * 9000],
)
def test_what_is_no_json_is_refused(visitor: Visitor, body: bytes) -> None:
    problem(post(visitor, body), 400, "invalid")
    assert not Request.objects.exists()


@pytest.mark.parametrize("where", ["quotes", "plain"])
def test_a_body_that_is_too_large_is_refused(visitor: Visitor, settings: Any, where: str) -> None:
    """Whether the framework looks at its size, as for a session, or reads all there is."""
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
    body = json.dumps({"basket_id" if where == "quotes" else "number": 21}).encode()
    headers = {"X-Visitor": "somebody"}

    assert visitor.ask(body.ljust(1000), where, **headers).status_code == 202
    said = problem(visitor.ask(body.ljust(1001), where, **headers), 413, "too-large")

    assert "DATA_UPLOAD_MAX_MEMORY_SIZE" in said["detail"]
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = None
    assert visitor.ask(body.ljust(1001), where, **headers).status_code == 202


@pytest.mark.parametrize("owner", [5, b"x", 7.5, ("a", 1)])
def test_an_owner_of_another_kind_is_what_it_is_as_text(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch, owner: object
) -> None:
    """He reads what he has asked, too."""
    monkeypatch.setattr(AcceptedView, "owner", lambda *_: owner)
    where = visitor.ask()["Location"]

    assert visitor.get(where).status_code == 200
    assert Request.objects.get().owner == str(owner)


@pytest.mark.parametrize("owner", [None, "", False])
def test_who_is_nobody_may_not_ask(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch, owner: object
) -> None:
    monkeypatch.setattr(AcceptedView, "owner", lambda *_: owner)
    assert visitor.ask().status_code in (401, 403)


def test_a_hook_that_returns_nothing_calls_nobody_back(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AcceptedView, "callback_url", lambda *_: None)
    assert visitor.ask().status_code == 202
    assert Request.objects.get().callback_url == ""

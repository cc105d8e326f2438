"""What a service tells others of a conversation: with the token only, bounded, without secrets."""

import json
from typing import Any

import pytest
from django.db import connection, transaction
from django.http import HttpResponse
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext

import outbox
from inbox.models import Receipt
from outbox.exceptions import ConfigurationError
from outbox.flow import wire
from outbox.flow.views import OF_KEY, conversation_view
from outbox.message.envelope import Envelope
from tests.kit.support import Counted

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]


def ask(method: str = "get", token: str = "t0ken", **query: str) -> HttpResponse:
    request = getattr(RequestFactory(), method)("/", query)
    if token:
        request.META["HTTP_AUTHORIZATION"] = f"Bearer {token}"
    return conversation_view(token="t0ken")(request)


def emit(**data: Any) -> Envelope:
    with transaction.atomic():
        return outbox.emit(Counted("42", 7), **data)


def receipt(message: Envelope, **options: Any) -> Receipt:
    about = {"handler": "h", "source": message.source, "message_id": message.id}
    about |= {"type": message.type, "correlation_id": message.correlation_id}
    return Receipt.objects.create(**about | options)


def test_what_is_known_of_a_conversation() -> None:
    """By its correlation id, or the id of one of its messages."""
    message = emit(correlation_id="flow")
    receipt(message, state="dead", error="ValueError: password=hunter2")

    for name in ("flow", message.id):
        response = ask(of=name)
        assert response.status_code == 200
        assert response["Content-Type"] == "application/json"
        assert "no-store" in response["Cache-Control"]
        half = wire.decode(response.content).half("far")
        assert half.correlation_id == "flow"
        assert [(each.id, each.key) for each in half.sent] == [(message.id, "42")]
        assert [each.error for each in half.stages if each.by == "h"] == [
            "ValueError: password=•••"
        ]


def test_no_data_is_told() -> None:
    """Neither that of a message nor that of a receipt."""
    message = emit(correlation_id="flow")
    receipt(message, body=b'{"iban": "DE00"}', headers='{"h": "DE00"}', traceback="DE00")
    with CaptureQueriesContext(connection) as captured:
        response = ask(of="flow")

    assert b"DE00" not in response.content
    assert b"number" not in response.content
    statements = [each["sql"] for each in captured.captured_queries]
    assert not any('"data"' in each or '"body"' in each for each in statements)


def test_the_messages_of_a_key() -> None:
    """The newest of them, in the order of the log, with the conversations that they belong to."""
    sent = [emit(correlation_id=f"flow {n}") for n in range(3)]
    answer = wire.decode(ask(key="42").content)

    assert [(each.id, each.correlation_id) for each in answer.messages] == [
        (each.id, each.correlation_id) for each in sent
    ]
    assert answer.cut is False
    with transaction.atomic():
        outbox.emit_many([Counted("42", n) for n in range(OF_KEY)])
    answer = wire.decode(ask(key="42").content)
    assert (len(answer.messages), answer.cut) == (OF_KEY, True)
    assert sent[-1].id not in [each.id for each in answer.messages]


def test_what_is_not_known() -> None:
    """Is an answer as well: a wrong address would give none."""
    half = wire.decode(ask(of="unknown").content).half("far")

    assert not half
    assert half.correlation_id == "unknown"


@pytest.mark.parametrize("token", ["", "wrong", "t0ken ", "t0kenx", "té"])
def test_without_the_token(token: str) -> None:
    """Nothing is told, nor read."""
    with CaptureQueriesContext(connection) as captured:
        response = ask(token=token, of="flow")

    assert (response.status_code, response.content) == (401, b"")
    assert response["WWW-Authenticate"] == "Bearer"
    assert len(captured) == 0


@pytest.mark.parametrize("name", ["", "x" * 256, "a\x00b"])
def test_a_name_that_is_none(name: str) -> None:
    """Is refused before the database is asked."""
    assert ask(of=name).status_code == 400
    assert ask(key=name).status_code == 400


def test_it_changes_nothing() -> None:
    """So it can only be looked at."""
    assert ask("post", of="flow").status_code == 405


@pytest.mark.parametrize("token", ["", " \n", "geheím"])
def test_a_token_that_nobody_could_send(token: str) -> None:
    """Is an error at the start, and no open door."""
    with pytest.raises(ConfigurationError, match=r"conversation_view\(\)"):
        conversation_view(token=token)


def test_its_bound() -> None:
    """Of a huge conversation it tells the beginning, with as many statements as of a part of it."""
    root = emit(correlation_id="flow")
    with outbox.use_context(correlation_id="flow", causation_id=root.id), transaction.atomic():
        outbox.emit_many([Counted("k", n) for n in range(wire.MESSAGES + 5)])
    with CaptureQueriesContext(connection) as captured:
        answer = json.loads(ask(of="flow").content)

    assert len(answer["messages"]) == wire.MESSAGES
    assert answer["cut"] is True
    assert len(captured) < 40

"""What code a message comes from."""

import sys
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import transaction
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import Client, override_settings
from django.urls import include, path

import outbox
from outbox import context
from outbox.message.envelope import Envelope
from outbox.message.origin import MAX_ORIGIN, made, origin_of
from outbox.models import Message
from tests.inbox.support import Handling, happened, receive
from tests.kit.support import Counted
from tests.outbox.celery.support import new_app

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]

app = new_app()


@app.task(name="tests.originates", shared=False)
def originates() -> str | None:
    return emit().attributes.get("origin")  # type: ignore[return-value]


def emit(**options: Any) -> Envelope:
    with transaction.atomic():
        return outbox.emit(Counted("k", 1), **options)


def place(request: HttpRequest, pk: int) -> HttpResponse:
    return HttpResponse(str(emit().attributes.get("origin")))


async def aplace(request: HttpRequest, pk: int) -> HttpResponse:
    return HttpResponse(str((await sync_to_async(emit)()).attributes.get("origin")))


def stream(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(str(emit().attributes.get("origin")) for _ in range(2))


pages = [path("shop/order/<int:pk>/change/", place, name="shop_order_change")]
urlpatterns = [
    path("orders/<int:pk>/", place),
    path("async/<int:pk>/", aplace),
    path("stream/", stream),
    path("panel/", include((pages, "admin"))),  # as the admin's site has its own
]

behind_the_middleware = override_settings(
    ROOT_URLCONF=__name__, MIDDLEWARE=["outbox.middleware.CorrelationMiddleware"]
)


@pytest.mark.parametrize(
    ("address", "origin"),
    [
        ("/orders/42/", "http:GET orders/<int:pk>/"),
        ("/async/42/", "http:GET async/<int:pk>/"),
        ("/stream/", "http:GET stream/" * 2),
        ("/panel/shop/order/7/change/", "admin:shop_order_change"),
    ],
)
def test_of_a_request_it_is_the_route(client: Client, address: str, origin: str) -> None:
    """Or the name of an admin's page, never the path with its ids; and afterwards it is gone."""
    with behind_the_middleware:
        answer = client.get(address)
    assert b"".join(answer) == origin.encode()
    assert emit().attributes == {}


def test_of_a_handler_it_is_the_name(handling: Handling) -> None:
    """Whatever the message says that it handles."""
    seen: list[Envelope] = []
    handling(lambda event, message: seen.append(emit()), name="tests.follow")
    with outbox.use_context(origin="http:GET elsewhere"):
        receive(happened(attributes={"origin": "http:POST orders/"}))
    assert seen[0].attributes == {"origin": "handler:tests.follow"}


def test_of_a_celery_task_it_is_the_name() -> None:
    """What it emits has it; and the task has that of who sends it."""
    assert originates.apply().get() == "task:tests.originates"
    with outbox.use_context(origin="handler:billing.invoice"), transaction.atomic():
        originates.delay()
    row = Message.objects.get(type="celery.task")
    assert row.origin == "handler:billing.invoice"


@pytest.mark.parametrize(
    ("argv", "origin"),
    [
        (["manage.py", "import_orders", "--all"], "command:import_orders"),
        (["/usr/bin/django-admin", "shell"], "command:shell"),
        (["/lib/django/__main__.py", "shell"], "command:shell"),
        (["manage.py"], None),
        (["/usr/bin/gunicorn", "project.wsgi"], None),
        ([], None),
    ],
)
def test_of_a_command_it_is_the_name(
    monkeypatch: pytest.MonkeyPatch, argv: list[str], origin: str | None
) -> None:
    """Where nothing else is known, and Django runs it."""
    monkeypatch.setattr(sys, "argv", argv)
    context._command.cache_clear()
    try:
        assert emit().attributes.get("origin") == origin
        with outbox.use_context(origin="http:GET a"):
            assert emit().attributes["origin"] == "http:GET a"
    finally:
        context._command.cache_clear()


def test_it_is_short_and_plain() -> None:
    """Whatever a name is: cut, and in ASCII."""
    assert made("handler", "größe\n x") == "handler:gr\\xf6\\xdfe x"
    assert len(made("http", "x" * 500)) == MAX_ORIGIN
    with outbox.use_context(origin="x" * 500):
        assert len(str(emit().attributes["origin"])) == MAX_ORIGIN
    for bad in ("\x00", "", "a\nb"):
        with outbox.use_context(origin=bad):
            assert emit().attributes == {}


@pytest.mark.parametrize(
    "value", [7, True, "", "somebody@example.org", "http:", "http:\x00", "handler:" + "x" * 500]
)
def test_what_is_none_of_our_form_is_not_shown(value: Any) -> None:
    """It may be anything that somebody calls so."""
    assert origin_of({"origin": value}) is None
    assert origin_of({}) is None


def test_the_callers_own_attribute_stands() -> None:
    """As with any that is carried."""
    with outbox.use_context(origin="http:GET a"):
        assert emit(attributes={"origin": "mine"}).attributes == {"origin": "mine"}


def test_it_can_be_left_out(settings: Any) -> None:
    """By a setting, of what is emitted and of tasks."""
    settings.OUTBOX = {**settings.OUTBOX, "ORIGIN": False}
    with outbox.use_context(origin="http:GET a"):
        assert emit().attributes == {}

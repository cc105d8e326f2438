"""A service that quotes prices over HTTP: what it asks, its views, and the handler that answers."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.urls import URLPattern, URLResolver, include, path
from rest_framework.request import Request
from rest_framework.routers import SimpleRouter
from rest_framework.serializers import CharField, IntegerField, Serializer, ValidationError

import outbox
from inbox.handlers.registry import Handler, handlers
from inbox.replies import taking
from outbox.api.accepted import AcceptedView
from outbox.message.event_types import registry

NAME = "quoting.quote"


@dataclass(frozen=True, slots=True)
class QuoteGiven:
    """What a basket costs."""

    amount: int


@dataclass(frozen=True, slots=True)
class QuoteDeclined:
    """Why it has no price."""

    why: str


@dataclass(frozen=True, slots=True)
class Quote:
    """What a basket costs, is the question."""

    basket_id: int
    note: str = ""


def answer(request: Quote, message: outbox.Envelope) -> QuoteGiven | QuoteDeclined:
    """Return what a basket costs."""
    if request.basket_id < 0:
        return QuoteDeclined("There is no such basket.")
    return QuoteGiven(request.basket_id * 2)


@contextmanager
def declared() -> Iterator[None]:
    """Know events and handler; forget them afterwards."""
    added: list[type] = [
        outbox.event("quoting.given")(QuoteGiven),
        outbox.event("quoting.declined")(QuoteDeclined),
        outbox.request(
            "quoting.quote",
            key="basket_id",
            reply=(QuoteGiven, QuoteDeclined),
            within=timedelta(minutes=2),
        )(Quote),
    ]
    handlers.add(
        Handler(name=NAME, function=answer, pattern="quoting.quote", declared_group="quoting")
    )
    taking.install()
    try:
        yield
    finally:
        handlers.remove(NAME)
        handlers.remove(taking.NAME)
        for each in added:
            registry.remove(registry.of_class(each))


class Quotes(AcceptedView):
    """What baskets cost."""

    request_type = Quote


class Sure(Quotes):
    """The same, for those who send a key."""

    key_required = True


class Body(Serializer[Any]):
    """A body of another form than the request."""

    number = IntegerField(min_value=1)
    word = CharField(max_length=20, required=False)


class Plain(Quotes):
    """The same, from another body, for anybody who says a name."""

    serializer_class = Body
    authentication_classes = ()

    def owner(self, request: Request) -> str:
        return request.headers.get("X-Visitor", "")

    def to_request(self, data: Any) -> Quote:
        return Quote(data["number"], data.get("word", ""))


class Mapped(Plain):
    """The same, which writes down what is new."""

    written: list[str] = []
    refuses = False

    def accepted(self, asked: outbox.Asked, request: Quote) -> None:
        self.written.append(asked.id)
        outbox.emit("quoting.noted", {"basket": request.basket_id})
        if self.refuses:
            raise ValidationError({"number": ["It is not for sale."]})


class Many(Quotes):
    """Two answers are wanted, soon."""

    replies = 2
    within = timedelta(seconds=30)


def urls() -> list[URLPattern | URLResolver]:
    router = SimpleRouter(trailing_slash=False)
    for view in (Quotes, Sure, Plain, Mapped, Many):
        name = view.__name__.lower()
        router.register(name, view, basename=name)
    return [path("shop/", include(router.urls))]

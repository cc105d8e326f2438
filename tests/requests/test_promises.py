"""A check reads what handlers of requests say that they return; deadlines pass in tests."""

from collections.abc import Callable
from typing import Any

import pytest

from inbox.checks import check_answers
from inbox.handlers.registry import Handler
from inbox.replies.answering import Later
from inbox.replies.promises import no_replies
from outbox.message.envelope import Envelope
from outbox.message.event_types import registry
from outbox.models import Scheduled
from outbox.testing import drain
from tests.requests.support import Declined, Given, Quote, Wire, ask

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]


def nothing(event: Quote, message: Envelope) -> None: ...
def unsaid(event, message): ...  # type: ignore[no-untyped-def]
def anything(event: Quote, message: Envelope) -> Any: ...
def a_reply(event: Quote, message: Envelope) -> Given: ...
def one_or_none(event: Quote, message: Envelope) -> Given | None: ...
def either(event: Quote, message: Envelope) -> Given | Declined: ...
def an_object(event: Quote, message: Envelope) -> object: ...
def later(event: Quote, message: Envelope) -> Later: ...
def a_request(event: Quote, message: Envelope) -> Quote: ...
def text_or_none(event: Quote, message: Envelope) -> str | None: ...
def unknown(event: Quote, message: Envelope) -> "Nobody": ...  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize(
    ("function", "wrong"),
    [
        (nothing, ["None"]),
        (unsaid, []),
        (anything, []),
        (a_reply, []),
        (one_or_none, []),
        (either, []),
        (an_object, []),
        (later, []),
        (a_request, ["Quote"]),
        (text_or_none, ["None", "str"]),
        (unknown, []),
    ],
)
def test_what_answers_nothing(wire: Wire, function: Any, wrong: list[str]) -> None:
    """Only one that says clearly that it never answers is told."""
    handler = Handler(name="h", pattern="pricing.quote", function=function)
    assert no_replies(handler, registry.of_class(Quote)) == wrong


def test_the_check(wire: Wire, answer: Callable[..., None]) -> None:
    """One that only looks on, or is for an event, may return nothing."""
    answer(nothing, pattern="pricing.#")
    answer(nothing, pattern="pricing.quote.given")
    answer(either)
    assert check_answers() == []
    answer(nothing)
    [told] = check_answers()
    assert told.id == "inbox.W063"
    assert told.msg.startswith("Handler answers.3 is for the request pricing.quote")
    assert told.hint is not None
    assert "Given or Declined" in told.hint


def test_a_deadline_passes_in_a_test(wire: Wire) -> None:
    """With drain(scheduled=True), and not without."""
    asked = ask()
    drain()
    assert asked.state() == "pending"
    drain(scheduled=True)
    assert asked.state() == "expired"
    assert ask().state() == "pending"
    assert Scheduled.objects.count() >= 1

"""Mistakes in asking over HTTP that one makes easily, and that the other tests here catch."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from outbox.api import accepted, headers, standing
from outbox.api.accepted import AcceptedView
from outbox.replies import asking
from tests.outbox.api import test_accepted, test_idempotency
from tests.outbox.api import test_accepted_waiting as test_waiting
from tests.outbox.api.test_accepted import Visitor
from tests.outbox.api.test_accepted_waiting import visitor, waits

__all__ = ["visitor", "waits"]
pytestmark = [
    pytest.mark.sqlite,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("_quoting"),
]


def always_new(*arguments: Any, **options: Any) -> Any:
    """Take what was there already for new."""
    return asking.ask_or_find(*arguments, **options)[0], True


def for_everybody(owner: str, event_type: Any, key: str) -> str:
    """Let a key be one for all who ask."""
    return key


@contextmanager
def unbounded(most: int) -> Iterator[bool]:
    """Have a place for each that waits."""
    yield True


Catch = Callable[[Visitor, pytest.MonkeyPatch], object]
MUTANTS: dict[str, tuple[object, str, Any, Catch]] = {
    "everybody sees it": (
        AcceptedView,
        "_is_seen",
        lambda *_: True,
        lambda who, _: test_accepted.TestStanding().test_a_stranger(who),
    ),
    "written again for what was there": (
        accepted,
        "ask_or_find",
        always_new,
        lambda _, patch: test_accepted.TestAsk().test_what_belongs_to_it_is_in_its_transaction(
            patch
        ),
    ),
    "one key for all": (
        asking,
        "_once",
        for_everybody,
        lambda who, _: test_idempotency.test_a_key_is_one_clients(who),
    ),
    "the body does not matter": (
        asking,
        "_fingerprint",
        lambda *_: "",
        lambda who, _: test_idempotency.test_key_reused_with_a_different_payload(who),
    ),
    "the key does not matter": (
        headers,
        "idempotency_key",
        lambda _: "",
        lambda who, _: test_idempotency.test_duplicate_request_after_it_is_completed(who),
    ),
    "one ETag for all": (
        accepted,
        "etag_of",
        lambda _: '"1"',
        lambda who, _: test_accepted.TestStanding().test_an_etag(who),
    ),
    "nothing is learned of others": (
        standing,
        "answer_times",
        lambda *_: [],
        lambda who, _: test_accepted.TestStanding().test_when_to_ask_again(who),
    ),
    "what has ended is cancelled": (
        standing.Standing,
        "state",
        "cancelled",
        lambda who, _: test_accepted.TestCancel().test_what_has_ended_is_a_conflict(who),
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_it_is_caught(visitor: Visitor, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The test that is about it fails."""
    place, attribute, mistake, catch = MUTANTS[name]
    monkeypatch.setattr(place, attribute, mistake)
    with pytest.raises(AssertionError):
        catch(visitor, monkeypatch)


@pytest.mark.parametrize(
    ("place", "attribute", "mistake", "catch"),
    [
        (headers, "seconds", lambda text, _: int(text), "test_how_long"),
        (accepted, "_place", unbounded, "test_more_than_may_wait"),
        (
            accepted,
            "in_transaction",
            lambda _: False,
            "test_in_a_transaction_of_somebody_else",
        ),
    ],
)
def test_it_is_caught_while_one_waits(
    visitor: Visitor,
    waits: list[float],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    place: object,
    attribute: str,
    mistake: Any,
    catch: str,
) -> None:
    """Too long, too many, or where it never ends."""
    monkeypatch.setattr(place, attribute, mistake)
    more = {
        "test_how_long": ("wait=600", [20]),
        "test_more_than_may_wait": (monkeypatch,),
        "test_in_a_transaction_of_somebody_else": (caplog,),
    }[catch]
    with pytest.raises(AssertionError):
        getattr(test_waiting, catch)(visitor, waits, *more)

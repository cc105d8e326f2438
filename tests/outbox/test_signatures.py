"""Calls with arguments that there are not: what is said of them."""

from collections.abc import Callable
from typing import Any

import pytest

import inbox
import outbox
from inbox.celery import idempotent

CALLS: list[tuple[Callable[..., Any], str]] = [
    (inbox.handler, "name, group, version, retry, ordered"),
    (outbox.event, "version, key, subject, topic"),
    (outbox.register, "version, key, subject, topic"),
    (idempotent, "key, using"),
    (inbox.Retry, "after, reason"),
    (inbox.Reject, "reason"),
    (inbox.RetryPolicy, "attempts, base, cap"),
]


@pytest.mark.parametrize(("call", "options"), CALLS)
def test_an_option_that_there_is_not(call: Callable[..., Any], options: str) -> None:
    """A misspelt option is named, beside those that there are and an example."""
    name = call.__name__
    with pytest.raises(TypeError) as caught:
        call(naem="x")

    assert str(caught.value).startswith(f"{name}() has no option 'naem'; its options are {options}")
    assert f"Write it as {'@' if name in {'handler', 'event', 'idempotent'} else ''}" in str(
        caught.value
    )


@pytest.mark.parametrize("call", [inbox.handler, outbox.event, outbox.register])
def test_without_arguments(call: Callable[..., Any]) -> None:
    """What is missing is named, beside an example."""
    with pytest.raises(TypeError, match=r"\(\): missing a required argument: .*Write it as .*\("):
        call()


def test_an_option_by_its_place() -> None:
    """Options are given by name, and the example shows how."""
    with pytest.raises(TypeError, match=r"too many positional arguments\. Write it as @handler"):
        inbox.handler("shop.order.placed", "billing.invoice")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"too many positional arguments\. .*inbox\.Retry"):
        inbox.RetryPolicy(3)  # type: ignore[call-arg]


def test_event_without_parentheses() -> None:
    """A class in the place of a name would vanish without a word."""
    with pytest.raises(outbox.ConfigurationError, match=r"@outbox\.event\('shop\.order\.placed'\)"):

        @outbox.event  # type: ignore[arg-type]
        class Placed:
            pass


def test_what_is_right_passes() -> None:
    """Calls work as before, and a signature is what it was."""
    assert inbox.RetryPolicy(attempts=3) == inbox.RetryPolicy(attempts=3)
    assert inbox.Retry(5, "later").after is not None
    assert inbox.Retry.__init__.__doc__ is None

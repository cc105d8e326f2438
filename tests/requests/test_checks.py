"""Requests that are badly declared are told at the start."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import pytest
from django.apps import apps

import outbox
from outbox.checks import check_requests
from outbox.message.event_types import registry

pytestmark = pytest.mark.sqlite


@dataclass(frozen=True)
class Given:
    amount: int


@dataclass(frozen=True)
class Asked:
    amount: int


@dataclass(frozen=True)
class AskedBack:
    amount: int


@pytest.fixture
def declared() -> Iterator[None]:
    outbox.event("checks.given")(Given)
    outbox.request("checks.asked", reply=Given, within=timedelta(minutes=2))(Asked)
    yield
    for each in (Given, Asked, AskedBack):
        if registry.has_class(each):
            registry.remove(registry.of_class(each))


def told() -> list[str]:
    return [str(each.id) for each in check_requests() if "checks." in each.msg]


def test_what_is_right_is_not_told(declared: None) -> None:
    assert told() == []


def test_without_within(declared: None) -> None:
    asked = outbox.request("checks.back", reply=Given)(AskedBack)
    assert told() == ["outbox.W007"]
    assert registry.of_class(asked).within == timedelta(minutes=1)


def test_a_reply_that_is_a_request(declared: None) -> None:
    outbox.request("checks.back", reply=(Given, Asked), within=timedelta(minutes=2))(AskedBack)
    assert told() == ["outbox.W009"]


def test_where_nobody_takes_replies(declared: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apps, "is_installed", lambda name: name != "inbox")
    assert told() == ["outbox.W008"]

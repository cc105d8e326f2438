"""RECONCILE: what it may say, and what a system check says of the rest."""

from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.test import override_settings

from outbox.checks import check_reconcile
from outbox.exceptions import UnusableSettings
from outbox.statements.conf import peers


def test_without_the_setting_there_is_nobody_to_compare_with() -> None:
    assert dict(peers()) == {}
    assert check_reconcile() == []


@override_settings(RECONCILE={"billing": {"TYPES": ["shop.order.*"], "EVERY": timedelta(hours=1)}})
def test_what_is_not_said_has_a_default() -> None:
    found = peers()["billing"]
    assert (found.bucket, found.grace, found.RELAY) == (60_000, 120_000, "default")
    assert check_reconcile() == []


@pytest.mark.parametrize(
    ("raw", "flaw"),
    [
        ([], "must be a dict"),
        ({"": {}}, "must have from 1 to 100"),
        ({"b": {"TYPE": ["a"]}}, "unknown keys: TYPE"),
        ({"b": {"TYPES": []}}, "must be a list"),
        ({"b": {"TYPES": ["**"]}}, "no event type"),
        ({"b": {"EVERY": timedelta(0)}}, "EVERY must be from a second"),
        ({"b": {"EVERY": 5}}, "EVERY"),
        ({"b": {"VIA": "pigeon"}}, "VIA must be 'messages'"),
        ({"b": {"GRACE": timedelta(days=2)}}, "GRACE must be"),
        ({"b": {"BUCKET": timedelta(seconds=7)}}, "BUCKET must be whole seconds"),
    ],
)
def test_what_cannot_be_meant_is_told(raw: Any, flaw: str) -> None:
    """By the check, and by whoever reads it."""
    with override_settings(RECONCILE=raw):
        assert any(flaw in each.msg for each in check_reconcile())
        assert {each.id for each in check_reconcile()} == {"outbox.E011"}
        with pytest.raises(UnusableSettings, match="RECONCILE"):
            peers()


def test_without_the_inbox_nobody_takes_an_answer() -> None:
    apps = [each for each in settings.INSTALLED_APPS if each not in ("inbox", "tests.testapp")]
    with override_settings(RECONCILE={"billing": {}}, INSTALLED_APPS=apps):
        assert [each.id for each in check_reconcile()] == ["outbox.E012"]

"""System checks of the consumer."""

from datetime import timedelta
from typing import Any

import pytest
from django.core.checks import run_checks
from django.test import override_settings

pytestmark = pytest.mark.sqlite


def ids() -> list[str]:
    return [message.id for message in run_checks() if str(message.id).startswith("inbox.")]


@pytest.mark.parametrize("inbox", [[], {"PREFETCH": "many"}, {"PREFETCH": 0}, {"NOPE": 1}])
def test_settings_that_cannot_work_are_an_error(inbox: Any) -> None:
    """E001 says what is wrong with INBOX."""
    with override_settings(INBOX=inbox):
        assert ids() == ["inbox.E001"]


def test_good_settings_pass() -> None:
    """Nothing to say about settings as they should be."""
    with override_settings(INBOX={"PREFETCH": 10}):
        assert ids() == []


@pytest.mark.parametrize(
    ("inbox", "outbox", "found"),
    [
        (30, {}, []),
        (30, {"RETENTION": 30}, []),
        (30, {"RETENTION": timedelta(days=31)}, ["inbox.W001"]),
        (30, {"RETENTION": None}, ["inbox.W001"]),
        (None, {"RETENTION": None}, []),
        (timedelta(days=1), {"RETENTION": 2}, ["inbox.W001"]),
    ],
)
def test_a_window_shorter_than_what_can_come_back_is_told(
    inbox: Any, outbox: dict[str, Any], found: list[str]
) -> None:
    """W001: the receipt of a message is gone while the message can be replayed."""
    with override_settings(INBOX={"RETENTION": inbox}, OUTBOX=outbox):
        assert ids() == found

"""System checks of the consumer."""

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

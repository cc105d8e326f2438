"""The settings of the API are checked before the first request."""

import pytest
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.test import override_settings

from outbox.api.conf import api_settings, scope
from tests.kit.api import mine


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"SCOPE": "tests.nowhere"}, "cannot be imported"),
        ({"SCOPE": "tests.kit.api.API"}, "must name a function"),
        ({"SCOPE": 1}, "must be a string"),
        ({"READ_RATE": "often"}, "600/min"),
        ({"RATE": "1/s"}, "unknown keys"),
        ([], "must be a dict"),
    ],
)
def test_what_cannot_work_is_a_system_check_error(settings: object, word: str) -> None:
    """E006, with what is wrong."""
    with override_settings(OUTBOX_API=settings), pytest.raises(SystemCheckError) as told:
        call_command("check")
    assert "outbox.E006" in str(told.value)
    assert word in str(told.value)


def test_settings_are_read_live() -> None:
    """Without any, permissions alone decide."""
    assert scope() is None
    with override_settings(OUTBOX_API={"SCOPE": "tests.kit.api.mine", "ACT_RATE": ""}):
        assert scope() is mine
        assert api_settings().ACT_RATE == ""

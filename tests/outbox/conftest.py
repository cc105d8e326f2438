"""Fixtures for the tests of the producer."""

import hypothesis
import pytest

from outbox.producer import wakeup

# How long an example takes says more about the machine than about the code.
hypothesis.settings.register_profile("tests", deadline=None)
hypothesis.settings.load_profile("tests")


@pytest.fixture(autouse=True)
def _no_recent_notification(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget notifications of the test before, which could stand in for this one's."""
    monkeypatch.setattr(wakeup, "_last_sent", {})


@pytest.fixture
def other_database() -> str:
    """The alias of a second database; tests that use it must declare it in django_db()."""
    return "other"

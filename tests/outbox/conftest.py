"""Fixtures for the tests of the producer."""

import hypothesis
import pytest

# How long an example takes says more about the machine than about the code.
hypothesis.settings.register_profile("tests", deadline=None)
hypothesis.settings.load_profile("tests")


@pytest.fixture
def other_database() -> str:
    """The alias of a second database; tests that use it must declare it in django_db()."""
    return "other"

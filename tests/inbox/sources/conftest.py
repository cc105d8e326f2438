"""Fixtures for the tests of sources."""

import logging
from collections.abc import Callable

import pytest


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """The warnings of the inbox."""
    caplog.set_level(logging.INFO, "inbox")
    return lambda: [
        each.getMessage()
        for each in caplog.records
        if each.name == "inbox" and each.levelno == logging.WARNING
    ]

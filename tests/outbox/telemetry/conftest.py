"""Prometheus, where it can be had."""

import pytest

from tests.kit.services.prometheus import ensure_installed


@pytest.fixture
def prometheus() -> None:
    """There are `prometheus` and `promtool`; without them the test is skipped."""
    ensure_installed()

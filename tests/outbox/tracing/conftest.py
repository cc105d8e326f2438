"""Fixtures for the tests of spans."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.kit.spans import Spans, recording


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch, settings: Any) -> Iterator[Spans]:
    """All spans, with handlers linked to where their message comes from."""
    with recording(monkeypatch, settings) as found:
        yield found

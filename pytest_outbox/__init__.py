"""The pytest plugin of django-outbox-inbox: no test reaches a real broker, unless it says so.

A package of its own that imports nothing of Django or the outbox: pytest loads it in every project
of the environment, before coverage is measured and before there are settings.
"""

import sys
from collections.abc import Generator

import pytest

MARKER = "outbox_broker"
OPTION = "outbox_guard"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let a project do without the guard."""
    parser.addini(
        OPTION,
        "whether tests fail that reach a real broker, or run a relay within a transaction",
        type="bool",
        default=True,
    )


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers", f"{MARKER}: may reach a real broker, which outbox.testing else does not allow"
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Guard a test with all its fixtures, if anything has imported the outbox."""
    wanted = item.config.getini(OPTION) and item.get_closest_marker(MARKER) is None
    if not wanted or "outbox.message.envelope" not in sys.modules:
        return (yield)
    from outbox.testing.guarding import no_broker  # noqa: PLC0415 - see above

    with no_broker():
        return (yield)

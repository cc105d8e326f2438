"""What pytest needs to do about services before and after the tests.

A plugin, named in pyproject.toml, because a conftest is loaded after Django's settings.
"""

import contextlib
import os
from collections.abc import Generator
from pathlib import Path

import pytest

from project.embedded import server
from tests.services import broker

TEST_DATA = Path(__file__).resolve().parents[2] / ".local" / "test-postgres"


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests() -> Generator[None]:
    """Start the embedded PostgreSQL if no server is given, for us and for our child processes."""
    if not os.environ.get("DATABASE_URL"):
        # Another directory than the demo's: tests must not meet its data.
        os.environ.setdefault("EMBEDDED_PGDATA", str(TEST_DATA))
        os.environ["DATABASE_URL"] = server.url()
    return (yield)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what only SQLite has, unless this run is on SQLite (it has a run of its own)."""
    if os.environ["DATABASE_URL"].startswith("sqlite"):
        return
    left_out = [item for item in items if item.get_closest_marker("only_sqlite")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def pytest_collection_finish(session: pytest.Session) -> None:
    """Install RabbitMQ, if need be, while no test's timeout is running."""
    if session.config.option.collectonly:
        return
    wanted = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    # The tests that miss a broker say so themselves.
    with contextlib.suppress(pytest.skip.Exception, pytest.fail.Exception):
        if "rabbit_node" in wanted or ("broker_url" in wanted and not broker.running_url()):
            broker.ensure_installed()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say loudly what could not be tested."""
    skipped = terminalreporter.getreports("skipped")
    untested = sorted({r.nodeid for r in skipped if broker.NO_BROKER in str(r.longrepr)})
    if untested:
        terminalreporter.section("NOT TESTED: there is no RabbitMQ", red=True, bold=True)
        terminalreporter.line(
            "Set BROKER_URL, or install rabbitmq-server, to run these "
            f"{len(untested)} tests of publishing and consuming over AMQP:"
        )
        for nodeid in untested:
            terminalreporter.line(f"  {nodeid}")

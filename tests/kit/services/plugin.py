"""What pytest needs to do about services before and after the tests.

A plugin, named in pyproject.toml, because a conftest is loaded after Django's settings.
"""

import atexit
import contextlib
import os
import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import Generator
from pathlib import Path

import psycopg
import pytest

from project.embedded import server
from tests.kit.services import axe, broker, browser, prometheus

SECONDS = {"foreign": 180, "mutant": 60, "pages": 60, "slow": 8}
"""About how long a test with such a mark takes; another one takes a tenth of a second."""
AMQP = "publishing and consuming over AMQP"
PAGES = "the admin in a real browser"
READERS = "the admin for screen readers"
ALERTS = "alerts, board and scrapes"
TESTS = Path(__file__).resolve().parents[2]
_USE_UP = """
DO $$ BEGIN
    WHILE pg_current_xact_id()::text::bigint < 50000 LOOP COMMIT; END LOOP;
END $$
"""
TEST_DATA = TESTS.parent / ".local" / "test-postgres"


def pytest_configure() -> None:
    """Let Ctrl-C be Ctrl-C: whoever was started in the background of a shell ignores it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(args: list[str]) -> Generator[None]:
    """Start the embedded PostgreSQL if no server is given, for us and for our child processes.

    Temporary directories are below one of our own, as servers of the tests run under an account
    that has to reach them: each pytest that begins, those of tests too, forbids others the way to
    the usual one.
    """
    if not any(each.startswith("--basetemp") for each in args):  # as that of a worker does
        own = tempfile.mkdtemp(prefix="tests-")
        args.append(f"--basetemp={own}/run")
        atexit.register(shutil.rmtree, own, ignore_errors=True)
    if not os.environ.get("DATABASE_URL"):
        # Another directory than the demo's: tests must not meet its data.
        os.environ.setdefault("EMBEDDED_PGDATA", str(TEST_DATA))
        os.environ["DATABASE_URL"] = server.url()
    _use_up_ids(os.environ["DATABASE_URL"])
    return (yield)


def _use_up_ids(url: str) -> None:
    """Let a young server be past its first transaction ids, before tables are made in it.

    Some tests give a log ids of long ago, as those of another server: below all that were given out
    since the tables are there (relay.log.rebase says why that matters). It takes half a second.
    """
    if url.startswith("postgres"):
        with (
            contextlib.suppress(psycopg.Error),  # a server that is away is told by the tests
            psycopg.connect(url, autocommit=True, connect_timeout=5) as connection,
        ):
            connection.execute(_USE_UP)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, and leave out what only SQLite has, but on SQLite.

    The tests of a file run one after the other: begun last, a long one would keep a core idle.
    """
    weights = Counter[Path]()
    for item in items:
        marks = (seconds for mark, seconds in SECONDS.items() if item.get_closest_marker(mark))
        weights[item.path] += max(marks, default=0.1)
    items.sort(key=lambda item: -weights[item.path])
    if os.environ["DATABASE_URL"].startswith("sqlite"):
        return
    left_out = [item for item in items if item.get_closest_marker("only_sqlite")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def pytest_collection_finish(session: pytest.Session) -> None:
    """Install what is missing, if need be, while no test's timeout is running."""
    if session.config.option.collectonly:
        return
    wanted = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    # The tests that miss one of them say so themselves.
    with contextlib.suppress(pytest.skip.Exception, pytest.fail.Exception):
        if "rabbit_node" in wanted or ("broker_url" in wanted and not broker.running_url()):
            broker.ensure_installed()
    with contextlib.suppress(pytest.skip.Exception, pytest.fail.Exception):
        if "browser" in wanted:
            browser.ensure_installed()
    with contextlib.suppress(pytest.skip.Exception, pytest.fail.Exception):
        if "prometheus" in wanted:
            prometheus.ensure_installed()
    with contextlib.suppress(pytest.skip.Exception, pytest.fail.Exception):
        if "axe" in wanted:
            axe.script()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say loudly what could not be tested."""
    for reason, what, remedy, about in (
        (broker.NO_BROKER, "RabbitMQ", "Set BROKER_URL, or install rabbitmq-server,", AMQP),
        (browser.NO_BROWSER, "Chromium", "Install chromium and chromium-driver", PAGES),
        (axe.NO_AXE, "axe-core", "Install npm, and have a registry in reach,", READERS),
        (prometheus.NO_PROMETHEUS, "Prometheus", "Install prometheus", ALERTS),
    ):
        skipped = terminalreporter.getreports("skipped")
        untested = sorted({r.nodeid for r in skipped if reason in str(r.longrepr)})
        if untested:
            terminalreporter.section(f"NOT TESTED: there is no {what}", red=True, bold=True)
            terminalreporter.line(f"{remedy} to run these {len(untested)} tests of {about}:")
            for nodeid in untested:
                terminalreporter.line(f"  {nodeid}")

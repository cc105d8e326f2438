"""manage.py relay, as a real process."""

import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
from urllib.parse import urlsplit

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.test import override_settings

import outbox
from inbox.models import Receipt
from outbox.runtime.shutdown import Shutdown
from relay.management.commands.relay import build, figures
from relay.models import Checkpoint
from tests.kit.processes import ROOT, run, running
from tests.testapp.events import Happened
from tests.testapp.models import Effect

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def local(database_url: str) -> dict[str, str]:
    return {"DATABASE_URL": database_url, "BROKER_URL": ""}


def commit(count: int) -> None:
    with transaction.atomic():
        outbox.emit_many([Happened("a", number) for number in range(count)])


def published() -> int:
    return sum(Checkpoint.objects.values_list("count", flat=True))


def test_it_publishes_until_sigterm_and_exits_0(local: dict[str, str]) -> None:
    """Running for good: what commits is handled; SIGTERM ends it in order, as JSON says."""
    with running("relay", **local) as process:
        commit(5)
        process.wait_for(lambda: Effect.objects.count() == 5)
        process.send(signal.SIGTERM)
        assert process.wait() == 0
        lines = [json.loads(line) for line in process.output.splitlines()]

    assert lines[-1]["message"] == "stopped"
    assert lines[-1]["published"] == 5
    assert {"time", "level", "logger"} <= lines[-1].keys()


def test_the_first_signal_finishes_the_page(local: dict[str, str]) -> None:
    """SIGTERM in the middle of a page: the page is handled and checkpointed, then it ends."""
    commit(300)
    with running("relay", "--page-size", "300", **local) as process:
        with transaction.atomic():
            lock_effects()  # holds the page open
            process.wait_for(waiting_for_lock)
            process.send(signal.SIGTERM)
            assert process.running
        assert process.wait() == 0, process.output

    # As much of it as there was time for.
    assert 0 < Effect.objects.count() == published() <= 300


def test_a_second_signal_ends_it_at_once(local: dict[str, str]) -> None:
    """The first signal waits for the page, the second does not: exit 143, nothing checkpointed."""
    commit(3)
    with running("relay", **local) as process:
        with transaction.atomic():
            lock_effects()
            process.wait_for(waiting_for_lock)
            process.send(signal.SIGTERM)
            process.send(signal.SIGINT)
            code = process.wait(20)
        assert code in (128 + signal.SIGTERM, 128 + signal.SIGINT), process.output

    assert published() == 0


def test_until_empty_leaves_nothing_behind(local: dict[str, str]) -> None:
    """--until-empty publishes all there is and exits 0."""
    commit(250)

    code, output = run("relay", "--until-empty", **local)
    assert code == 0, output
    assert Effect.objects.count() == 250


def test_once_looks_at_each_lane_once(local: dict[str, str]) -> None:
    """--once moves what is there and exits 0."""
    commit(3)

    assert run("relay", "--once", **local)[0] == 0
    assert published() == 3


@pytest.mark.parametrize(
    ("password", "vhost", "told"),
    [
        ("hunter2", "/", "user name or password is refused"),
        (None, "nope", "the virtual host is refused"),
    ],
)
@pytest.mark.parametrize("command", [("relay",), ("consume", "--group", "tests")], ids=" ".join)
def test_a_broker_that_does_not_let_it_in_ends_it_at_the_start(
    command: tuple[str, ...],
    password: str | None,
    vhost: str,
    told: str,
    broker_url: str,
    database_url: str,
) -> None:
    """Exit 1 and what is refused, for relay and consumer, although they run until stopped."""
    parts = urlsplit(broker_url)
    login = f"{parts.username}:{password or parts.password}"
    url = f"amqp://{login}@{parts.hostname}:{parts.port}/{vhost}"
    code, output = run(*command, DATABASE_URL=database_url, BROKER_URL=url)

    assert code == 1, output
    assert "CommandError: The broker does not let us in (amqp://" in output
    assert told in output
    assert "Traceback" not in output
    assert login not in output
    assert "hunter2" not in output


@pytest.mark.parametrize("command", [("relay",), ("relay_status",), ("inbox_retry", "--all")])
def test_a_database_that_is_not_there_ends_it_at_the_start(
    command: tuple[str, ...], local: dict[str, str]
) -> None:
    """Exit 1, and what to correct."""
    url = local["DATABASE_URL"]
    if not url.startswith("postgresql"):
        pytest.skip("a file is made if it is not there")
    url = re.sub("dbname=[^&]*", "dbname=not_there", url)
    code, output = run(*command, **local | {"DATABASE_URL": url})

    assert code == 1, output
    assert 'database "not_there" does not exist. Correct NAME in DATABASES' in output
    assert "Traceback" not in output


@pytest.mark.parametrize("pending", [0, 1])
@pytest.mark.parametrize("how", ["--until-empty", "--once"])
def test_exits_1_if_the_broker_is_away(database_url: str, how: str, pending: int) -> None:
    """The error names the broker without its password, and says that nothing is lost.

    Also where nothing is pending: who runs it wants to know that the next event would wait.
    """
    commit(pending)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    url = f"amqp://guest:s3cret@127.0.0.1:{port}//"
    code, output = run("relay", how, DATABASE_URL=database_url, BROKER_URL=url)

    assert code == 1
    assert f"127.0.0.1:{port}" in output
    assert "Nothing is lost" in output
    assert "s3cret" not in output


def test_a_failing_handler_does_not_stop_the_relay(local: dict[str, str]) -> None:
    """Local broker, handler raises: the inbox keeps the message, and the output says so."""
    with transaction.atomic():
        envelope = outbox.emit(Happened("a", -1))
    code, output = run("relay", "--until-empty", TEST_FAIL="-1", **local)

    assert code == 0
    assert envelope.id in output
    assert "Attempt 1 of 16" in output
    assert published() == 1
    assert Receipt.objects.get(message_id=envelope.id).state == "retrying"


def test_without_migrations_it_says_what_to_do() -> None:
    """A database that was not migrated is a clear error, not a traceback."""
    code, output = run("relay", "--once", DATABASE_URL="sqlite://:memory:", BROKER_URL="")

    assert code == 1
    assert "manage.py migrate" in output
    assert "Traceback" not in output


def test_an_unknown_relay_is_a_clear_error() -> None:
    """--relay with a name that is not configured lists those that are."""
    with pytest.raises(CommandError, match="No relay 'nope' in RELAYS"):
        call_command("relay", "--relay", "nope", "--once")


@pytest.mark.parametrize("size", ["0", "-1", "100001"])
def test_a_page_size_out_of_bounds_is_refused(size: str) -> None:
    """--page-size is checked on the command line."""
    with pytest.raises(CommandError, match="from 1 to 100000"):
        call_command("relay", "--page-size", size)


def test_broken_settings_stop_it_with_a_sentence() -> None:
    """An unusable backend is a CommandError that names the setting."""
    with (
        override_settings(RELAYS={"default": {"BACKEND": "nowhere.Broker"}}),
        pytest.raises(CommandError, match="BACKEND"),
    ):
        call_command("relay", "--once")


def test_on_a_terminal_it_draws_one_line(local: dict[str, str]) -> None:
    """A live line, redrawn in place, instead of JSON."""
    commit(3)
    master, slave = pty.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "manage.py", "relay", "--until-empty"],
            cwd=ROOT,
            env=os.environ | {"DJANGO_SETTINGS_MODULE": "tests.settings", "TERM": "xterm"} | local,
            stdout=slave,
            stderr=subprocess.STDOUT,
            timeout=60,
        )
        shown = os.read(master, 65536).decode()
    finally:
        os.close(master)
        os.close(slave)

    assert done.returncode == 0
    assert "\r\x1b[2K" in shown
    assert "published 3" in shown
    assert "{" not in shown


def lock_effects() -> None:
    with connection.cursor() as cursor:
        cursor.execute("LOCK TABLE testapp_effect IN ACCESS EXCLUSIVE MODE")


def waiting_for_lock() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_locks WHERE NOT granted "
            "AND relation = 'testapp_effect'::regclass"
        )
        return bool(cursor.fetchone()[0])


def test_every_figure_is_documented() -> None:
    """What the terminal shows, also after an outage of broker and database."""
    page = (ROOT / "docs/how-to/observe.md").read_text()
    with Shutdown() as shutdown:
        relay = build("default", "default", shutdown)
        relay.progress.parked = 1
        for breaker in relay.progress.breakers.values():
            breaker.failed("away")
        shown = figures(relay)

    assert {"broker_breaker", "database_breaker"} <= set(shown)
    assert [name for name in shown if f"`{name}`" not in page] == []

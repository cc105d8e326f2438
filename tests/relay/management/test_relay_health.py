"""manage.py relay --health-port: a real process, asked over HTTP."""

import signal
import socket

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction

import outbox
from tests.kit.probes import ask, health_url, wait_for
from tests.kit.processes import run, running
from tests.kit.sessions import sessions
from tests.relay.management.test_relay_command import lock_effects, waiting_for_lock
from tests.testapp.events import Happened
from tests.testapp.models import Effect

pytestmark = [
    pytest.mark.skipif(connection.vendor != "postgresql", reason="the process needs the database"),
    pytest.mark.django_db(transaction=True),
]


@pytest.fixture
def local(database_url: str) -> dict[str, str]:
    return {"DATABASE_URL": database_url, "BROKER_URL": ""}


@pytest.mark.slow
def test_a_relay_that_publishes_is_alive_and_ready(local: dict[str, str]) -> None:
    """And ends in order as ever."""
    with running("relay", "--health-port", "0", **local) as process:
        url = health_url(process)
        wait_for(f"{url}/readyz", 200, "ok")
        assert ask(f"{url}/healthz") == (200, "ok\n")
        process.send(signal.SIGTERM)
        assert process.wait() == 0, process.output


@pytest.mark.slow
def test_a_relay_whose_broker_is_away_is_alive_and_not_ready(database_url: str) -> None:
    """It goes on by itself: to start it anew would not help."""
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    away = {"DATABASE_URL": database_url, "BROKER_URL": f"amqp://guest:guest@127.0.0.1:{port}//"}
    with running("relay", "--health-port", "0", **away) as process:
        url = health_url(process)
        wait_for(f"{url}/readyz", 503, "broker")
        assert ask(f"{url}/healthz") == (200, "ok\n")


@pytest.mark.slow
def test_a_loop_that_does_not_turn_is_not_alive(local: dict[str, str]) -> None:
    """Here a handler of the local broker waits for a lock; when it has it, all is well again."""
    command = ("relay", "--health-port", "0", "--health-seconds", "2")
    with sessions(1) as [blocker], running(*command, **local) as process:
        url = health_url(process)
        wait_for(f"{url}/readyz", 200, "ok")
        blocker.begin()
        blocker.run(lock_effects)
        with transaction.atomic():
            outbox.emit(Happened("a", 1))
        process.wait_for(waiting_for_lock)
        wait_for(f"{url}/healthz", 503, "stuck")
        assert ask(f"{url}/readyz") == (200, "ok\n")
        blocker.commit()
        wait_for(f"{url}/healthz", 200, "ok")
        process.wait_for(lambda: Effect.objects.count() == 1)


@pytest.mark.slow
def test_a_frozen_process_does_not_answer(local: dict[str, str]) -> None:
    """Which a supervisor takes for not alive."""
    with running("relay", "--health-port", "0", **local) as process:
        url = health_url(process)
        process.send(signal.SIGSTOP)
        with pytest.raises(OSError, match="timed out"):
            ask(f"{url}/healthz", seconds=0.5)
        process.send(signal.SIGCONT)
        assert ask(f"{url}/healthz") == (200, "ok\n")


@pytest.mark.slow
def test_a_call_that_cannot_be_meant(local: dict[str, str]) -> None:
    """Exit code 2, as for other such calls."""
    code, output = run("relay", "--health-port", "0", "--until-empty", **local)
    assert code == 2, output
    with pytest.raises(CommandError, match="must be a port"):
        call_command("relay", "--health-port", "x")

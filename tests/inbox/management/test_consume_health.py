"""manage.py consume --health-port: a real process, asked over HTTP."""

import json
import signal

import pytest

from tests.inbox.support import (
    Handling,
    Queue,
    block_effects,
    effects,
    happened,
    postgresql,
    waiting_for_lock,
)
from tests.kit.probes import ask, health_url, wait_for
from tests.kit.processes import run, running
from tests.kit.services.rabbitmq import RabbitNode
from tests.kit.sessions import sessions

pytestmark = [postgresql, pytest.mark.django_db(transaction=True)]


def environment(queue: Queue, handling: Handling, database_url: str) -> dict[str, str]:
    """What makes a process consume a queue, which exists."""
    handling(name="bound")
    queue.declare()
    return {
        "DATABASE_URL": database_url,
        "BROKER_URL": queue.url,
        "TEST_EXCHANGE": queue.exchange,
        "TEST_GROUP": queue.name,
        "TEST_INBOX": json.dumps({"RETRY_MAX": 0.5}),
    }


@pytest.mark.slow
def test_a_consumer_whose_broker_goes_away_is_alive_and_not_ready(
    own_queue: Queue, handling: Handling, database_url: str, rabbit_node: RabbitNode
) -> None:
    """Until it is back; it goes on by itself."""
    environ = environment(own_queue, handling, database_url)
    command = ("consume", "--group", own_queue.name, "--health-port", "0")
    with running(*command, **environ) as process:
        url = health_url(process)
        wait_for(f"{url}/readyz", 200, "ok")
        rabbit_node.stop()
        wait_for(f"{url}/readyz", 503, "broker")
        assert ask(f"{url}/healthz") == (200, "ok\n")
        rabbit_node.start()
        wait_for(f"{url}/readyz", 200, "ok")
        process.send(signal.SIGTERM)
        assert process.wait() == 0, process.output


@pytest.mark.slow
def test_a_handler_that_takes_too_long_makes_it_not_alive(
    queue: Queue, handling: Handling, database_url: str
) -> None:
    """Of a process with several groups, one of them is enough."""
    environ = environment(queue, handling, database_url)
    command = ("consume", "--health-port", "0", "--health-seconds", "3")
    with sessions(1) as [blocker], running(*command, **environ) as process:
        url = health_url(process)
        wait_for(f"{url}/readyz", 200, "ok")
        blocker.begin()
        blocker.run(block_effects)
        queue.publish(happened(1))
        process.wait_for(waiting_for_lock)
        wait_for(f"{url}/healthz", 503, "stuck")
        assert ask(f"{url}/readyz") == (200, "ok\n")
        blocker.commit()
        wait_for(f"{url}/healthz", 200, "ok")
        process.wait_for(lambda: effects() == [1])


@pytest.mark.slow
def test_a_call_that_cannot_be_meant(queue: Queue, handling: Handling, database_url: str) -> None:
    """Exit code 2, as for other such calls."""
    environ = environment(queue, handling, database_url)
    code, output = run("consume", "--health-port", "0", "--until-empty", **environ)
    assert code == 2, output

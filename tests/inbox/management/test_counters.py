"""A real Prometheus scrapes a relay and a consumer, and sees what they do."""

import json
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest
from django.db import transaction

import outbox
from tests.inbox.support import Handling, Queue, effects, postgresql
from tests.kit.probes import ask, health_url
from tests.kit.processes import Process, running
from tests.kit.services.prometheus import Prometheus, ensure_installed
from tests.kit.waiting import until
from tests.testapp.events import Happened
from tests.testapp.handlers import RECORD

pytestmark = [postgresql, pytest.mark.django_db(transaction=True)]

FAILS = 13


@pytest.fixture
def environ(queue: Queue, handling: Handling, database_url: str) -> dict[str, str]:
    """What makes processes publish to a queue, and consume it, and count that."""
    ensure_installed()
    handling(name="bound")
    queue.declare()
    return {
        "DATABASE_URL": database_url,
        "BROKER_URL": queue.url,
        "TEST_EXCHANGE": queue.exchange,
        "TEST_GROUP": queue.name,
        "TEST_OUTBOX": json.dumps({"METRICS": ["prometheus"]}),
        "TEST_FAIL": str(FAILS),
    }


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as found:
        yield found


def emit(*numbers: int) -> None:
    with transaction.atomic():
        outbox.emit_many([Happened("k", number) for number in numbers])


@pytest.mark.slow
def test_counters_rise_and_survive_a_process(
    environ: dict[str, str], queue: Queue, stack: ExitStack
) -> None:
    """What is emitted here is seen there as published and handled, by rates and quantiles too.

    A consumer that is killed takes its numbers along; the next one begins at 0. Nothing is lost.
    """

    def start(*arguments: str, port: int = 0) -> Process:
        command = (*arguments, "--health-port", str(port))
        return stack.enter_context(running(*command, **environ))

    relay = start("relay")
    consumer = start("consume", "--group", queue.name)
    places = {"relay": urlsplit(health_url(relay)), "inbox": urlsplit(health_url(consumer))}
    server = Prometheus(
        {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "scrape_configs": [
                {"job_name": job, "static_configs": [{"targets": [place.netloc]}]}
                for job, place in places.items()
            ],
        }
    )
    stack.callback(server.close)

    def value(expression: str) -> float | None:
        found = server.query(expression)
        return found[0][1] if found else None

    published = 'relay_published_total{job="relay", relay="default", outcome="confirmed"}'
    processed = f'inbox_handled_total{{job="inbox", handler="{RECORD}", outcome="processed"}}'
    emit(1, 2, 3)
    until(lambda: value(published) == 3)
    until(lambda: value(processed) == 3)
    emit(4, FAILS)
    until(lambda: value(published) == 5)
    failed = f'inbox_handled_total{{handler="{RECORD}", outcome="retrying"}}'
    until(lambda: (value(failed) or 0) >= 1)
    assert value(processed) == 4
    assert value(f'inbox_received_total{{group="{queue.name}", result="new"}}') == 5
    critical = f'inbox_critical_seconds_bucket{{handler="{RECORD}"}}'
    until(lambda: (value(f"histogram_quantile(0.5, rate({critical}[1m]))") or 0) > 0)
    assert (value("relay_delivery_seconds_count") or 0) == 5

    consumer.send(signal.SIGKILL)
    consumer.wait()
    until(lambda: value('up{job="inbox"}') == 0)
    emit(5, 6)
    until(lambda: value(published) == 7)  # who is left still counts
    port = places["inbox"].port
    assert port is not None
    start("consume", "--group", queue.name, port=port)
    until(lambda: value(processed) == 2, seconds=60)
    assert effects(RECORD) == [1, 2, 3, 4, 5, 6]
    for target in server.api("targets")["activeTargets"]:
        assert (target["health"], target["lastError"]) == ("up", "")


@pytest.mark.slow
def test_off_there_is_no_page(environ: dict[str, str], queue: Queue, stack: ExitStack) -> None:
    """The probes are there, and nothing else is named or answered."""
    environ["TEST_OUTBOX"] = "{}"
    relay = stack.enter_context(running("relay", "--health-port", "0", **environ))
    url = health_url(relay)
    assert "/metrics" not in relay.output
    assert ask(f"{url}/metrics")[0] == 404
    assert ask(f"{url}/healthz") == (200, "ok\n")

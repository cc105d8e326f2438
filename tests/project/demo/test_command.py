"""manage.py demo, as people run it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit.services.rabbitmq import RabbitNode

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]

ROOT = Path(__file__).resolve().parents[3]
KEYS = {
    "committed",
    "rolled_back",
    "emitted",
    "published",
    "handled",
    "duplicates_suppressed",
    "lost",
    "effects_twice",
    "order_violations",
}


def start(*arguments: str, database_url: str, broker_url: str = "") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "manage.py", "demo", *arguments],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": database_url, "BROKER_URL": broker_url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def figures_of(process: subprocess.Popen[str]) -> dict[str, int]:
    """Return what a run printed, which must be one JSON object and nothing else."""
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    figures = json.loads(output)
    assert set(figures) == KEYS
    return figures


def assert_kept(figures: dict[str, int], *, orders: int) -> None:
    assert figures["committed"] + figures["rolled_back"] == orders
    assert figures["rolled_back"] > 0
    assert figures["emitted"] == figures["published"] == figures["handled"]
    # Each order was placed, invoiced, dispatched and shipped, and most were changed as well.
    assert figures["emitted"] > 4 * figures["committed"]
    assert (figures["lost"], figures["effects_twice"], figures["order_violations"]) == (0, 0, 0)


@pytest.mark.timeout(300)
def test_nothing_is_lost_doubled_or_disordered_with_the_local_broker(database_url):
    """Two runs, one after the other on one database, keep every promise while relays are killed."""
    for seed in ("1", "2"):
        run = start("--json", "--orders", "200", "--seed", seed, database_url=database_url)
        figures = figures_of(run)
        assert_kept(figures, orders=200)
        assert figures["duplicates_suppressed"] == 0


@pytest.mark.timeout(300)
def test_nothing_is_lost_doubled_or_disordered_with_rabbitmq(database_url, rabbit_node: RabbitNode):
    """The same through a broker, where what a killed relay had published comes twice.

    On a node of our own: the queues have the names of the groups, and on a shared node another
    demo would take a part of the messages.
    """
    run = start("--json", "--orders", "200", database_url=database_url, broker_url=rabbit_node.url)
    figures = figures_of(run)

    assert_kept(figures, orders=200)
    assert figures["duplicates_suppressed"] > 0


def test_a_run_that_is_not_done_in_time_fails(database_url):
    """It exits 1, says why, and prints what it has found up to then."""
    run = start("--json", "--timeout", "0.5", database_url=database_url)
    output, errors = run.communicate()

    assert run.returncode == 1
    assert json.loads(output)["committed"] < 400
    assert "NOT DONE IN TIME" in errors


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_can_be_interrupted(database_url, number):
    """Ctrl-C and SIGTERM stop everything and say so."""
    run = start("--orders", "2000", database_url=database_url)
    assert "writers place 2000 orders" in run.stdout.readline()
    run.send_signal(number)
    _, errors = run.communicate(timeout=60)

    assert run.returncode == 130
    assert "Stopped. All processes have ended." in errors

"""manage.py demo, as people run it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

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
MORE = {"asked", "acknowledged", "reconciled"}
"""Of the second part, which a run that is not done in time does not reach."""


@pytest.fixture
def own_databases() -> Iterator[None]:
    """Those that the demo makes beside ours are new, and gone in the end."""
    drop_own_databases()
    yield
    drop_own_databases()


def drop_own_databases() -> None:
    with connection.cursor() as cursor:
        for service in ("shop", "billing", "shipping", "carrier"):
            name = connection.ops.quote_name(f"{connection.settings_dict['NAME']}_{service}")
            cursor.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def start(*arguments: str, database_url: str, broker_url: str = "") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "manage.py", "demo", *arguments],
        cwd=ROOT,
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "project.settings",
            "DATABASE_URL": database_url,
            "BROKER_URL": broker_url,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def figures_of(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Return what a run printed, which must be one JSON object and nothing else."""
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    figures = json.loads(output)
    assert set(figures) == KEYS | MORE
    return dict(figures)


def assert_kept(figures: dict[str, Any], *, orders: int) -> None:
    assert figures["committed"] + figures["rolled_back"] == orders
    assert figures["rolled_back"] > 0
    assert figures["emitted"] == figures["published"] == figures["handled"]
    # Each order was placed, invoiced, dispatched and shipped, and most were changed as well.
    assert figures["emitted"] > 4 * figures["committed"]
    assert (figures["lost"], figures["effects_twice"], figures["order_violations"]) == (0, 0, 0)
    assert_asked_and_acknowledged(figures)


def assert_asked_and_acknowledged(figures: dict[str, Any]) -> None:
    """Every request has one end, however the answer is had, and both groups have told of all."""
    ends = {"answered": 8, "declined": 1, "expired": 1}
    ways = {"poll": ends, "callback": ends, "await": ends}
    assert figures["asked"] == {"total": 30, **ways}
    orders = figures["committed"]
    handled = {"handled": orders}
    assert figures["acknowledged"] == {"orders": orders, "billing": handled, "shipping": handled}


def breaks_of(books: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, int]]:
    """Return what is open, by sender and group."""
    return {
        (book["sender"], book["group"]): {
            kind: count for kind, count in book["breaks"].items() if count
        }
        for book in books
    }


def assert_found_and_mended(
    reconciled: dict[str, Any], found: dict[tuple[str, str], dict[str, int]]
) -> None:
    """Nothing is broken before; then what was lost, and nothing else; in the end nothing again."""
    assert (reconciled["not_found"], reconciled["not_planted"]) == (0, 0)
    assert breaks_of(reconciled["found"]) == found
    for when in ("before", "after"):
        assert breaks_of(reconciled[when]) == {pair: {} for pair in found}
        assert all(book["agrees"] and book["compared"] for book in reconciled[when])


@pytest.mark.timeout(600)
def test_nothing_is_lost_doubled_or_disordered_with_the_local_broker(database_url):
    """Two runs, one after the other on one database, keep every promise while relays are killed."""
    for seed, orders in ((1, 200), (2, 60)):
        chosen = "--orders", str(orders), "--seed", str(seed)
        figures = figures_of(start("--json", *chosen, database_url=database_url))
        assert_kept(figures, orders=orders)
        assert figures["duplicates_suppressed"] == 0
        reconciled = figures["reconciled"]
        assert reconciled["planted"] == {"receipts": 6, "messages": 5}
        assert_found_and_mended(
            reconciled,
            {
                ("shop", "billing"): {"missing": 6, "unknown": 5},
                ("shop", "shipping"): {},
                ("shop", "shop"): {},
            },
        )


@pytest.mark.usefixtures("own_databases")
@pytest.mark.timeout(600)
def test_nothing_is_lost_doubled_or_disordered_with_rabbitmq(database_url, rabbit_node: RabbitNode):
    """The same through a broker, where what a killed relay had published comes twice.

    Each service has its own database, and reconciles what was lost on purpose: the shop restored to
    an earlier time, messages taken by a stranger, a queue deleted.

    On a node of our own: the queues have the names of the groups, and on a shared node another
    demo would take a part of the messages.
    """
    run = start("--json", "--orders", "200", database_url=database_url, broker_url=rabbit_node.url)
    figures = figures_of(run)

    assert_kept(figures, orders=200)
    assert figures["duplicates_suppressed"] > 0
    reconciled = figures["reconciled"]
    assert reconciled["planted"] == {"restored": 20, "stolen": 6, "deleted": 20}
    assert reconciled["mended"] == 16
    assert_found_and_mended(
        reconciled,
        {
            ("shop", "billing"): {"missing": 6, "unknown": 10},
            ("shop", "shipping"): {"missing": 10, "unknown": 5},
            ("billing", "shipping"): {"missing": 10},
            ("shipping", "shop"): {"missing": 5},
        },
    )


def test_a_run_that_is_not_done_in_time_fails(database_url):
    """It exits 1, says why, and prints what it has found up to then."""
    run = start("--json", "--timeout", "0.5", database_url=database_url)
    output, errors = run.communicate()

    assert run.returncode == 1
    figures = json.loads(output)
    assert figures["committed"] < 400
    assert not MORE & set(figures)
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

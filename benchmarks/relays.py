"""Run real relays on a backlog, from a common start, and read in the log how fast they were."""

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from typing import NamedTuple

from benchmarks.databases import Database
from benchmarks.processes import ROOT, Process
from relay.locks import REBASE_KEY

RELAY = "relay"
"""The application name of relays' sessions."""

_numbers = count(1)


class Drained(NamedTuple):
    """How fast a backlog was published, and what it cost the relays, by the message."""

    per_second: float
    cpu_microseconds: float


def new_name() -> str:
    """Return the name of a relay that has not read anything yet."""
    return f"bench-{next(_numbers)}"


def drain(
    database: Database,
    broker_url: str,
    *,
    name: str = "",
    processes: int = 1,
    command: tuple[str, ...] = (sys.executable, str(ROOT / "manage.py")),
    **options: str,
) -> Drained:
    """Publish all that the relay `name` has yet to publish.

    From the moment at which the processes, connected and ready, may take a lane to the last
    checkpoint: neither the start of Python nor its end counts.
    """
    name = name or new_name()
    arguments = [*command, "relay", "--relay", name, "--until-empty"]
    variables = {
        "DATABASE_URL": database.url(RELAY),
        "BROKER_URL": broker_url,
        "BENCH_RELAY": name,
        **options,
    }
    before, cpu = published(database, name), children_seconds()
    with ExitStack() as running:
        with starting_line(database):
            relays = [
                running.enter_context(Process(arguments, **variables)) for _ in range(processes)
            ]
            for relay in relays:
                relay.wait_until(lambda: waiting(database) >= processes)
            time.sleep(0.2)
            cpu += sum(relay.cpu_seconds() for relay in relays)
            started = time.time()
        for relay in relays:
            relay.wait()
    [(messages, last)] = database.query(
        "SELECT sum(count), extract(epoch FROM max(created))::float8"
        " FROM django_relay_checkpoint WHERE relay = %s",
        [name],
    )
    moved = int(messages) - before
    return Drained(
        per_second=moved / (float(last) - started),
        cpu_microseconds=(children_seconds() - cpu) / moved * 1e6,
    )


def children_seconds() -> float:
    """Return how long processes that we started, and that have ended, occupied a core."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@contextmanager
def starting_line(database: Database) -> Iterator[None]:
    """Let no relay take a lane during the block: it holds the lock that a rebase would hold."""
    with database.connect() as connection:
        connection.execute("SELECT pg_advisory_lock(%s, 0)", [REBASE_KEY])
        yield


def waiting(database: Database) -> int:
    """Return how many relays have asked for a lane."""
    return int(
        database.value(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND application_name = %s AND query ~ 'advisory|django_relay|COMMIT|ROLLBACK'",
            [RELAY],
        )
    )


def published(database: Database, name: str) -> int:
    """Return how many messages a relay has settled so far."""
    return int(
        database.value(
            "SELECT coalesce(sum(count), 0) FROM django_relay_checkpoint WHERE relay = %s", [name]
        )
    )

"""Question 4: does a message cost the same, whatever there is besides it?

The same backlog is drained from a table that was empty, from one with a long past, and while a
transaction that owns an id stays open, which keeps PostgreSQL from cleaning up. And a relay starts
on a huge backlog: how soon does it flow, how much memory does it take?
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from benchmarks import history, relays
from benchmarks.databases import Database, load, service_database
from benchmarks.peers.harness import NoPeers, peer_database, run_peer
from benchmarks.processes import Process, run_manage
from benchmarks.question import Question, Study, main
from benchmarks.queues import drop_queue, fresh_queue
from benchmarks.results import Figure, Ratio, compared, limit
from benchmarks.rounds import Contender

GOAL = 1.15
GOAL_FLOW = 2.0
GOAL_MEMORY = 150.0
PAGES = 30
"""Pages of a huge backlog, after which memory is looked at."""

EMPTY, HISTORY, HELD = "empty", "history", "held"


def answer(study: Study) -> None:
    url = study.servers.broker_url
    messages = study.size("messages", 40_000)
    study.parameters["rows"] = study.rows
    with ExitStack() as stack:
        stack.callback(drop_queue, url)

        def database(name: str) -> Database:
            return stack.enter_context(service_database(study.servers, name))

        empty, old, held = map(database, (EMPTY, HISTORY, HELD))
        seconds = history.messages(old, study.rows)
        study.say(f"  {study.rows:,} messages in {seconds:.0f} s")
        backlog(study, old, url)
        stack.enter_context(open_transaction(held))
        figures = study.compete(
            [
                Contender(EMPTY, "an empty table", lambda: drain(empty, url, messages)),
                Contender(
                    HISTORY, f"{study.rows:,} rows of history", lambda: drain(old, url, messages)
                ),
                Contender(HELD, "a transaction stays open", lambda: drain(held, url, messages)),
                *peer(study, stack, url),
            ]
        )
    ours = [figures[name].median for name in (EMPTY, HISTORY, HELD)]
    study.ratios["spread"] = Ratio(
        label="the fastest of the three : the slowest",
        value=max(ours) / min(ours),
        better="lower",
        goal=GOAL,
        unit="x",
    )
    for name in (HISTORY, HELD):
        study.ratios[name] = compared(
            figures[name], figures[EMPTY], f"{figures[name].label} : {figures[EMPTY].label}"
        )
    if "peer-held" in figures:
        first, last = figures["peer-held"].values[0], figures["peer-held"].values[-1]
        study.ratios["peer"] = compared(
            figures["peer-held"],
            figures["peer"],
            "faststream-outbox: a transaction stays open : does not",
        )
        study.notes.append(
            f"While the transaction stays open faststream-outbox drains {first:,.0f} messages a "
            f"second in the first round and {last:,.0f} in the last: dead rows pile up."
        )


def drain(database: Database, url: str, messages: int) -> float:
    """Drain a fresh backlog by a relay that has started just before it."""
    name = relays.new_name()
    variables = {"BROKER_URL": url, "BENCH_RELAY": name, "BENCH_START": "now"}
    run_manage("relay", "--relay", name, "--once", DATABASE_URL=database.url(), **variables)
    load(database, messages)
    fresh_queue(url)
    return relays.drain(database, url, name=name, BENCH_START="now").per_second


@contextmanager
def open_transaction(database: Database) -> Iterator[None]:
    """Keep a transaction open that owns an id, as a long report or a forgotten session would."""
    with database.connect(autocommit=False) as connection:
        connection.execute("SELECT pg_current_xact_id()")
        yield
        connection.rollback()


def backlog(study: Study, database: Database, url: str) -> None:
    """Start relays on everything that the table holds."""
    flows, memory = [], []
    for _ in range(study.rounds):
        fresh_queue(url)
        name = relays.new_name()
        variables = {"BROKER_URL": url, "BENCH_RELAY": name, "DATABASE_URL": database.url()}
        started = time.time()
        with Process.manage("relay", "--relay", name, **variables) as relay:
            relay.wait_until(lambda name=name: pages(database, name) >= PAGES)  # type: ignore[misc]
            memory.append(relay.peak_bytes() / 2**20)
        first = database.value(
            "SELECT extract(epoch FROM min(created))::float8 FROM django_relay_checkpoint"
            " WHERE relay = %s",
            [name],
        )
        flows.append(float(first) - started)
    rows = f"a backlog of {study.rows:,}"
    study.figures["flow"] = Figure(
        label=f"{rows}: from the start of the process to the first page", unit="s", values=flows
    )
    study.figures["memory"] = Figure(label=f"{rows}: most memory in use", unit="MiB", values=memory)
    study.ratios["flow"] = limit(study.figures["flow"], GOAL_FLOW)
    study.ratios["memory"] = limit(study.figures["memory"], GOAL_MEMORY)


def pages(database: Database, name: str) -> int:
    return int(
        database.value("SELECT count(*) FROM django_relay_checkpoint WHERE relay = %s", [name])
    )


def peer(study: Study, stack: ExitStack, url: str) -> Iterator[Contender]:
    """The fastest peer, in two databases: in one of them a transaction stays open."""
    if not study.peers:
        return
    each = study.size("messages of the peer", 5_000)
    try:
        free = stack.enter_context(peer_database(study.servers, "faststream_outbox"))
        held = stack.enter_context(peer_database(study.servers, "faststream_outbox"))
    except NoPeers as exc:
        study.skipped["faststream-outbox"] = str(exc)
        return
    stack.enter_context(open_transaction(held))

    def run(database: Database) -> float:
        fresh_queue(url)
        said = run_peer("faststream_outbox", "drain", str(each), database=database, broker_url=url)
        return float(said["messages"]) / float(said["seconds"])

    yield Contender("peer", "faststream-outbox, an empty table", lambda: run(free))
    yield Contender("peer-held", "faststream-outbox, a transaction stays open", lambda: run(held))


QUESTION = Question("cost", "Constant cost: does what else is there matter?", answer)

if __name__ == "__main__":
    raise SystemExit(main(QUESTION))

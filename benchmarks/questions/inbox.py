"""Question 5: how fast are messages handled, each once?

The handler writes one row through the ORM. Beside it: a consumer as one would write it by hand,
with a transaction for each message; then with a long past, and with every message coming twice.
"""

from collections.abc import Mapping
from contextlib import ExitStack

from benchmarks import history
from benchmarks.databases import Database, service_database
from benchmarks.processes import run_manage, run_worker
from benchmarks.question import Question, Study, main
from benchmarks.queues import drop_queue, fresh_queue
from benchmarks.results import compared
from benchmarks.rounds import Contender

GOALS = {"by_hand": 3.0, "history": 0.9}


def answer(study: Study) -> None:
    url = study.servers.broker_url
    messages = study.size("messages", 10_000)
    fewer = study.size("messages one by one", 4_000)
    study.parameters["receipts"] = study.rows
    with ExitStack() as stack:
        stack.callback(drop_queue, url)

        def database(name: str) -> Database:
            return stack.enter_context(service_database(study.servers, name))

        empty, by_hand, old, twice = map(database, ("inbox", "by_hand", "receipts", "twice"))
        seconds = history.receipts(old, study.rows)
        study.say(f"  {study.rows:,} receipts in {seconds:.0f} s")
        figures = study.compete(
            [
                Contender("inbox", "the inbox", lambda: consume(empty, url, messages)),
                Contender(
                    "by_hand",
                    "by hand, a transaction for each message",
                    lambda: consume(by_hand, url, fewer, by_hand=True),
                ),
                Contender(
                    "history",
                    f"the inbox, with {study.rows:,} receipts",
                    lambda: consume(old, url, messages),
                ),
                Contender(
                    "twice",
                    "the inbox, every message twice",
                    lambda: consume(twice, url, messages, copies=2),
                ),
            ]
        )
    ours = figures["inbox"]
    study.ratios["by_hand"] = compared(
        ours,
        figures["by_hand"],
        f"{ours.label} : {figures['by_hand'].label}",
        goal=GOALS["by_hand"],
    )
    for name in ("history", "twice"):
        study.ratios[name] = compared(
            figures[name], ours, f"{figures[name].label} : without", goal=GOALS.get(name)
        )


def consume(
    database: Database, url: str, messages: int, *, copies: int = 1, by_hand: bool = False
) -> float:
    """Return messages a second, of a queue that is filled first."""
    fresh_queue(url)
    fill(url, messages, copies)
    return handle(database, url, messages, copies=copies, by_hand=by_hand)


def fill(url: str, messages: int, copies: int = 1, **options: str) -> None:
    """Put messages into the queue, as many in all."""
    run_worker("preload", str(messages), str(copies), BROKER_URL=url, **options)


def handle(
    database: Database,
    url: str,
    messages: int,
    *,
    copies: int = 1,
    by_hand: bool = False,
    options: Mapping[str, str] | None = None,
) -> float:
    """Return messages a second, from the first effect to that of the last message."""
    last = database.value("SELECT coalesce(max(id), 0) FROM bench_effect")
    variables = {
        "DATABASE_URL": database.url("consumer"),
        "BROKER_URL": url,
        **(options or {}),
    }
    if by_hand:
        run_worker("one_by_one", **variables)
    else:
        run_manage("consume", "--until-empty", **variables)
    [(effects, seconds)] = database.query(
        "SELECT count(*), max(at) FILTER (WHERE number = -1) - min(at) FROM bench_effect"
        " WHERE id > %s",
        [last],
    )
    if effects != messages // copies + 1:
        raise RuntimeError(f"{effects} effects of {messages} messages, {copies} of each")
    return messages / float(seconds)


QUESTION = Question("inbox", "Inbox: how fast are messages handled?", answer)

if __name__ == "__main__":
    raise SystemExit(main(QUESTION))

"""Question 7: what does a Celery task cost through the outbox, and how fast do tasks flow?

Beside plain `delay()`, as it comes, which waits for no confirm and can lose what it sends, and with
`confirm_publish`, which waits for each. All go to one quorum queue, with 200 bytes of arguments.
"""

from collections.abc import Mapping
from contextlib import ExitStack

from benchmarks import relays
from benchmarks.databases import Database, service_database
from benchmarks.processes import run_worker
from benchmarks.question import Question, Study, main
from benchmarks.queues import drop_queue, fresh_queue
from benchmarks.results import Figure, compared
from benchmarks.rounds import Contender

KINDS = {
    "plain": "plain delay()",
    "confirmed": "delay() with confirm_publish",
    "outbox": "delay() into the outbox",
}


def answer(study: Study) -> None:
    url = study.servers.broker_url
    with ExitStack() as stack:
        stack.callback(drop_queue, url)
        database = stack.enter_context(service_database(study.servers, "celery"))
        measure_calls(study, database, url)
        measure_flow(study, database, url)


def measure_calls(study: Study, database: Database, url: str) -> None:
    """Note what a call adds to a transaction of one row."""
    number = study.size("transactions", 1_000)
    said: list[Mapping[str, float]] = []
    for turn in range(study.rounds):
        fresh_queue(url)
        found = run_worker(
            "tasks", "calls", str(number), DATABASE_URL=database.url(), BROKER_URL=url
        )
        said.append(found)
        study.say(
            f"  round {turn + 1}/{study.rounds}  "
            + "  ".join(f"{name}: {seconds * 1e6:.0f} µs" for name, seconds in found.items())
        )
    for name, label in {"without": "no task", **KINDS}.items():
        study.figures[f"call-{name}"] = Figure(
            label=f"a transaction with {label}",
            unit="µs",
            values=[each[name] * 1e6 for each in said],
        )
    for name in ("plain", "confirmed"):
        study.ratios[f"call-{name}"] = compared(
            study.figures["call-outbox"],
            study.figures[f"call-{name}"],
            f"a transaction with delay() into the outbox : with {KINDS[name]}",
            better="lower",
        )


def measure_flow(study: Study, database: Database, url: str) -> None:
    """Note how many tasks a second reach the queue: the calls themselves, and the relay."""
    number = study.size("tasks", 20_000)
    few = study.size("tasks one by one", 3_000)

    def call(kind: str, number: int) -> float:
        fresh_queue(url)
        said = run_worker(
            "tasks", "send", str(number), kind, DATABASE_URL=database.url(), BROKER_URL=url
        )
        return float(said["messages"] / said["seconds"])

    def relay() -> float:
        fresh_queue(url)
        return relays.drain(database, url).per_second

    database.query("TRUNCATE django_outbox_message")
    figures = study.compete(
        [
            Contender("send-outbox", "calls into the outbox", lambda: call("outbox", number)),
            Contender("relay", "the relay, of tasks", relay),
            Contender("send-plain", KINDS["plain"], lambda: call("plain", few)),
            Contender("send-confirmed", KINDS["confirmed"], lambda: call("confirmed", few)),
        ]
    )
    for name in ("plain", "confirmed"):
        study.ratios[f"relay-{name}"] = compared(
            figures["relay"], figures[f"send-{name}"], f"the relay, of tasks : {KINDS[name]}"
        )


QUESTION = Question("celery", "Celery: what does a task cost through the outbox?", answer)

if __name__ == "__main__":
    raise SystemExit(main(QUESTION))

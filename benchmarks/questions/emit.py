"""Question 2: what does an event add to a transaction?

A one-row transaction with and without one event, taking turns in one process; the same in the
peers, each with what it would take a user to write. And many events in one statement.
"""

from collections.abc import Callable, Mapping
from contextlib import ExitStack

from benchmarks.databases import service_database
from benchmarks.peers.harness import NoPeers, peer_database, run_peer
from benchmarks.processes import run_worker
from benchmarks.question import Question, Study, main
from benchmarks.results import Figure, compared, limit

Run = Callable[[], Mapping[str, float]]

GOAL = 1.30
GOAL_MANY = 15.0


def answer(study: Study) -> None:
    transactions = study.size("transactions", 1_500)
    said: dict[str, list[Mapping[str, float]]] = {}
    with ExitStack() as stack:
        runs = emitters(study, stack, transactions)
        for turn in range(study.rounds):
            for label, run in runs.items():
                found = run()
                said.setdefault(label, []).append(found)
                study.say(
                    f"  round {turn + 1}/{study.rounds}  {label}: {found['without'] * 1e6:.0f} → "
                    f"{found['with'] * 1e6:.0f} µs"
                )
    for label, rounds in said.items():
        note(study, label, rounds)
    many = [round_["each_of_many"] * 1e6 for round_ in said[OURS]]
    study.figures["many"] = Figure(label="emit_many(), of 1,000", unit="µs/event", values=many)
    study.ratios["many"] = limit(study.figures["many"], GOAL_MANY)


OURS = "this library"
PREPARED = "this library, with prepare_threshold"


def emitters(study: Study, stack: ExitStack, transactions: int) -> dict[str, Run]:
    servers = study.servers
    database = stack.enter_context(service_database(servers, "emit"))
    batches = study.size("batches", 20)
    arguments = (str(transactions), str(batches))
    runs: dict[str, Run] = {
        OURS: lambda: run_worker("emit", *arguments, DATABASE_URL=database.url()),
        PREPARED: lambda: run_worker(
            "emit", *arguments, DATABASE_URL=database.url(), BENCH_PREPARE="5"
        ),
    }
    if not study.peers:
        return runs
    try:
        for label, name in PEERS.items():
            theirs = stack.enter_context(peer_database(servers, name))
            runs[label] = lambda name=name, theirs=theirs: run_peer(  # type: ignore[misc]
                name, "emit", str(transactions), database=theirs
            )
    except NoPeers as exc:
        study.skipped[", ".join(PEERS)] = str(exc)
    return runs


PEERS = {
    "faststream-outbox 0.19": "faststream_outbox",
    "django-celery-outbox 0.4.3": "celery_outbox",
}


def note(study: Study, label: str, rounds: list[Mapping[str, float]]) -> None:
    """Note what a library adds to a transaction of the same kind."""
    name = {OURS: "ours", PREPARED: "prepared", **PEERS}[label]
    for which in ("without", "with"):
        study.figures[f"{name}-{which}"] = Figure(
            label=f"{label}: {which} an event",
            unit="µs",
            values=[each[which] * 1e6 for each in rounds],
        )
    study.ratios[name] = compared(
        study.figures[f"{name}-with"],
        study.figures[f"{name}-without"],
        f"{label}: a transaction with an event : without",
        better="lower",
        goal=GOAL if name == "ours" else None,
    )


QUESTION = Question("emit", "Emit: what does an event add to a transaction?", answer)

if __name__ == "__main__":
    raise SystemExit(main(QUESTION))

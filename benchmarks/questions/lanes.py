"""Question 6: what do lanes cost, and what do several relays bring?"""

from contextlib import ExitStack

from benchmarks import relays
from benchmarks.databases import Database, load, service_database
from benchmarks.question import Question, Study, main
from benchmarks.queues import drop_queue, fresh_queue
from benchmarks.results import compared
from benchmarks.rounds import Contender

COMBINATIONS = ((1, 1), (2, 1), (4, 1), (2, 2), (4, 2), (4, 4))
GOAL = 1.1


def answer(study: Study) -> None:
    url = study.servers.broker_url
    messages = study.size("messages", 30_000)
    with ExitStack() as stack:
        stack.callback(drop_queue, url)
        databases = {}
        for lanes in sorted({lanes for lanes, _ in COMBINATIONS}):
            made = stack.enter_context(service_database(study.servers, f"lanes_{lanes}"))
            load(made, messages, BENCH_LANES=str(lanes))
            databases[lanes] = made

        def drain(database: Database, lanes: int, processes: int) -> float:
            fresh_queue(url)
            return relays.drain(
                database, url, processes=processes, BENCH_LANES=str(lanes)
            ).per_second

        figures = study.compete(
            [
                Contender(
                    f"{lanes}-{processes}",
                    f"{_count(lanes, 'lane')}, {_count(processes, 'relay')}",
                    lambda lanes=lanes, processes=processes: drain(  # type: ignore[misc]
                        databases[lanes], lanes, processes
                    ),
                )
                for lanes, processes in COMBINATIONS
            ]
        )
    study.ratios["lanes"] = compared(
        figures["1-1"],
        figures["4-1"],
        "time of one relay with 4 lanes : with 1 lane",
        better="lower",
        goal=GOAL,
    )
    for lanes, processes in ((2, 2), (4, 4)):
        study.ratios[f"relays-{processes}"] = compared(
            figures[f"{lanes}-{processes}"],
            figures["1-1"],
            f"{processes} relays with {lanes} lanes : one relay with one lane",
        )


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' if number > 1 else ''}"


QUESTION = Question("lanes", "Lanes: what do they cost, and bring?", answer)

if __name__ == "__main__":
    raise SystemExit(main(QUESTION))

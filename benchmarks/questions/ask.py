"""Question: what does a request with its reply cost, beside two plain events?

Both in chunks, by turns in one process, from the transaction that asks to the one that settles.
"""

from benchmarks.databases import service_database
from benchmarks.processes import run_worker
from benchmarks.question import Question, Study, main
from benchmarks.results import Figure, compared

GOAL = 1.3


def answer(study: Study) -> None:
    messages = study.size("requests of a chunk", 200)
    chunks = study.size("chunks", 10)
    events: list[float] = []
    requests: list[float] = []
    with service_database(study.servers, "ask") as database:
        for turn in range(study.rounds):
            found = run_worker(
                "ask", str(messages), str(chunks), DATABASE_URL=database.url(), BENCH_LANES="1"
            )
            events.append(found["events"] * 1e6)
            requests.append(found["events"] * found["ratio"] * 1e6)
            database.query("TRUNCATE bench_effect, django_outbox_request CASCADE")
            study.say(
                f"  round {turn + 1}/{study.rounds}  two events {events[-1]:.0f} µs, a request "
                f"and its reply {requests[-1]:.0f} µs"
            )
    study.figures["events"] = Figure(
        label="two events, of which one causes the other", unit="µs", values=events
    )
    study.figures["requests"] = Figure(label="a request and its reply", unit="µs", values=requests)
    study.ratios["ask"] = compared(
        study.figures["requests"],
        study.figures["events"],
        "a request and its reply : two events",
        better="lower",
        goal=GOAL,
    )


QUESTION = Question("ask", "Requests: what does an answer cost?", answer)

if __name__ == "__main__":
    raise SystemExit(main(QUESTION))

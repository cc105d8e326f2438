"""Question: what do metrics cost the relay and the inbox?

Each exporter beside none, by turns: how fast, and how long the process occupied a core by the
message. The latter hardly minds what else runs on the machine.
"""

from collections.abc import Callable
from contextlib import ExitStack

from benchmarks import relays
from benchmarks.databases import load, service_database
from benchmarks.processes import run_manage
from benchmarks.question import Question, Study, main
from benchmarks.questions.inbox import fill, handle
from benchmarks.queues import drop_queue, fresh_queue
from benchmarks.results import Figure, compared
from benchmarks.rounds import Contender

GOAL = 0.97
EXPORTERS = {
    "off": "without metrics",
    "prometheus": "for Prometheus",
    "opentelemetry": "for OpenTelemetry",
}


def answer(study: Study) -> None:
    url = study.servers.broker_url
    messages = study.size("messages", 100_000)
    fewer = study.size("messages received", 10_000)
    cpu: dict[str, list[float]] = {}
    with ExitStack() as stack:
        stack.callback(drop_queue, url)
        sending = stack.enter_context(service_database(study.servers, "metrics"))
        receiving = stack.enter_context(service_database(study.servers, "metrics_inbox"))
        load(sending, messages)

        def relay(metrics: str) -> tuple[float, float]:
            fresh_queue(url)
            return relays.drain(sending, url, BENCH_METRICS=metrics)

        def inbox(metrics: str) -> tuple[float, float]:
            # Of starting alone: what is imported is not what a message costs.
            fresh_queue(url)
            before = relays.children_seconds()
            run_manage(
                "consume",
                "--until-empty",
                DATABASE_URL=receiving.url("consumer"),
                BROKER_URL=url,
                BENCH_METRICS=metrics,
            )
            start = relays.children_seconds() - before
            fill(url, fewer)
            before = relays.children_seconds() + start
            rate = handle(receiving, url, fewer, metrics=metrics)
            return rate, (relays.children_seconds() - before) / fewer * 1e6

        def contender(
            which: str, name: str, run: Callable[[str], tuple[float, float]]
        ) -> Contender:
            def measured() -> float:
                rate, microseconds = run("" if name == "off" else name)
                cpu.setdefault(f"{which}-{name}", []).append(microseconds)
                return rate

            return Contender(f"{which}-{name}", f"the {which} {EXPORTERS[name]}", measured)

        figures = study.compete(
            [
                contender(which, name, run)
                for which, run in (("relay", relay), ("inbox", inbox))
                for name in EXPORTERS
            ]
        )
    for name, values in cpu.items():
        study.figures[f"{name}-cpu"] = Figure(
            label=f"{figures[name].label}: its own processor time", unit="µs/msg", values=values
        )
    for which in ("relay", "inbox"):
        for name, words in list(EXPORTERS.items())[1:]:
            label = f"the {which} {words} : {EXPORTERS['off']}"
            study.ratios[f"{which}-{name}"] = compared(
                figures[f"{which}-{name}"], figures[f"{which}-off"], label, goal=GOAL
            )
            study.ratios[f"{which}-{name}-cpu"] = compared(
                study.figures[f"{which}-{name}-cpu"],
                study.figures[f"{which}-off-cpu"],
                f"processor time of {label}",
                better="lower",
            )


QUESTION = Question("metrics", "Metrics: what do they cost?", answer)

if __name__ == "__main__":
    raise SystemExit(main(QUESTION))

"""Question: what do metrics and traces cost the relay and the inbox?

Each exporter beside none, by turns: how fast, and how long the process occupied a core by the
message. The latter hardly minds what else runs on the machine. Traces are at their dearest: all
messages are sampled, those of a log and a queue of their own, so that each page links to them and
each call of a handler is a span.
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
WITHOUT = "without metrics and traces"
EXPORTERS = {
    "off": WITHOUT,
    "prometheus": "with metrics for Prometheus",
    "opentelemetry": "with metrics for OpenTelemetry",
    "tracing": "with traces, all sampled",
}
METRICS = {"prometheus": "prometheus", "opentelemetry": "opentelemetry"}
TRACING = {"tracing": "link"}
GOALS = dict.fromkeys(METRICS, GOAL)
"""Of traces nothing is promised: they are on where somebody samples."""


def answer(study: Study) -> None:
    url = study.servers.broker_url
    messages = study.size("messages", 100_000)
    fewer = study.size("messages received", 10_000)
    cpu: dict[str, list[float]] = {}
    with ExitStack() as stack:
        stack.callback(drop_queue, url)
        sending = stack.enter_context(service_database(study.servers, "metrics"))
        receiving = stack.enter_context(service_database(study.servers, "metrics_inbox"))
        sampled = stack.enter_context(service_database(study.servers, "metrics_sampled"))
        load(sending, messages)
        load(sampled, messages, BENCH_TRACING="link")

        def relay(name: str) -> tuple[float, float]:
            fresh_queue(url)
            log = sampled if name == "tracing" else sending
            metrics, tracing = METRICS.get(name, ""), TRACING.get(name, "off")
            return relays.drain(log, url, BENCH_METRICS=metrics, BENCH_TRACING=tracing)

        def inbox(name: str) -> tuple[float, float]:
            metrics, tracing = METRICS.get(name, ""), TRACING.get(name, "off")
            # Of starting alone: what is imported is not what a message costs.
            fresh_queue(url)
            before = relays.children_seconds()
            run_manage(
                "consume",
                "--until-empty",
                DATABASE_URL=receiving.url("consumer"),
                BROKER_URL=url,
                BENCH_METRICS=metrics,
                BENCH_TRACING=tracing,
            )
            start = relays.children_seconds() - before
            fill(url, fewer, BENCH_TRACING=tracing)
            before = relays.children_seconds() + start
            options = {"BENCH_METRICS": metrics, "BENCH_TRACING": tracing}
            rate = handle(receiving, url, fewer, options=options)
            return rate, (relays.children_seconds() - before) / fewer * 1e6

        def contender(
            which: str, name: str, run: Callable[[str], tuple[float, float]]
        ) -> Contender:
            def measured() -> float:
                rate, microseconds = run(name)
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
            label = f"the {which} {words} : {WITHOUT}"
            study.ratios[f"{which}-{name}"] = compared(
                figures[f"{which}-{name}"], figures[f"{which}-off"], label, goal=GOALS.get(name)
            )
            study.ratios[f"{which}-{name}-cpu"] = compared(
                study.figures[f"{which}-{name}-cpu"],
                study.figures[f"{which}-off-cpu"],
                f"processor time of {label}",
                better="lower",
            )


QUESTION = Question("metrics", "Metrics and traces: what do they cost?", answer)

if __name__ == "__main__":
    raise SystemExit(main(QUESTION))

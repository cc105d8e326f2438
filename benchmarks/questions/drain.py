"""Question 1: how fast does a relay publish a backlog, and how far is that from what is possible?

Beside it: a bare loop around the same client without a database, a compiled client, and what else
a user would pick. All publish persistent messages of 250 bytes, confirmed, to one quorum queue.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack

from benchmarks import compiled, relays
from benchmarks.databases import Database, load, service_database
from benchmarks.peers.harness import NoPeers, peer_database, run_peer
from benchmarks.processes import run_worker
from benchmarks.question import Question, Study, main
from benchmarks.queues import EXCHANGE, drop_queue, fresh_queue
from benchmarks.results import Figure, compared
from benchmarks.rounds import Contender

WINDOW = 1000
TOPIC = "bench.order.placed"
BYTES = 250
GOALS = {"frames": 0.9, "bare": None, "compiled": 0.5, "faststream": 8.0, "celery": 18.0}


class Drain:
    """The contenders; each run also notes what its own process cost by the message."""

    def __init__(self, study: Study, stack: ExitStack) -> None:
        self.study = study
        self.stack = stack
        self.url = study.servers.broker_url
        self.messages = study.size("messages", 100_000)
        self.cpu: dict[str, list[float]] = {}
        stack.callback(drop_queue, self.url)

    def contenders(self) -> Iterator[Contender]:
        database = self.stack.enter_context(service_database(self.study.servers, "drain"))
        load(database, self.messages)
        yield Contender("relay", "the relay", lambda: self.relay(database))
        yield Contender("frames", "bare loop with the same frames, no database", self.frames)
        yield Contender("bare", "bare py-amqp loop, no database", self.bare)
        yield from self.compiled()
        if self.study.peers:
            yield from self.peers()

    def relay(self, database: Database) -> float:
        fresh_queue(self.url)
        drained = relays.drain(database, self.url)
        self.note("relay", drained.cpu_microseconds)
        return drained.per_second

    def frames(self) -> float:
        return self.publish("frames", "frames")

    def bare(self) -> float:
        return self.publish("bare", "amqp")

    def publish(self, name: str, client: str) -> float:
        fresh_queue(self.url)
        given = (str(self.messages), str(WINDOW), client)
        return self.rate(name, run_worker("publish", *given, BROKER_URL=self.url))

    def compiled(self) -> Iterator[Contender]:
        label = "compiled client (librabbitmq), no database"
        try:
            program = self.stack.enter_context(compiled.client())
        except compiled.NoCompiler as exc:
            self.study.skipped[label] = str(exc)
            return
        headers = run_worker("headers")

        def publish() -> float:
            fresh_queue(self.url)
            said = compiled.publish(
                program,
                self.url,
                exchange=EXCHANGE,
                topic=TOPIC,
                count=self.messages,
                window=WINDOW,
                size=BYTES,
                headers=headers,
            )
            return self.rate("compiled", said)

        yield Contender("compiled", label, publish)

    def peers(self) -> Iterator[Contender]:
        each = self.study.size("messages of peers", 5_000)
        servers, enter = self.study.servers, self.stack.enter_context
        try:
            faststream = enter(peer_database(servers, "faststream_outbox"))
            celery = enter(peer_database(servers, "celery_outbox"))
        except NoPeers as exc:
            self.study.skipped["faststream-outbox, django-celery-outbox"] = str(exc)
            return
        yield Contender(
            "faststream",
            "faststream-outbox 0.19, tuned",
            lambda: self.peer("faststream_outbox", faststream, each),
        )
        yield Contender(
            "celery",
            "django-celery-outbox 0.4.3, as it comes",
            lambda: self.peer("celery_outbox", celery, each, 1),
        )
        yield Contender(
            "celery8",
            "django-celery-outbox 0.4.3, 8 publishing threads",
            lambda: self.peer("celery_outbox", celery, each, 8),
        )

    def peer(self, name: str, database: Database, *arguments: int) -> float:
        fresh_queue(self.url)
        given = map(str, arguments)
        said = run_peer(name, "drain", *given, database=database, broker_url=self.url)
        return self.rate(name.removesuffix("_outbox"), said)

    def rate(self, name: str, said: Mapping[str, float]) -> float:
        """Return messages a second by the report of a process, and note what it cost itself."""
        if "cpu" in said:
            self.note(name, said["cpu"] / said["messages"] * 1e6)
        return said["messages"] / said["seconds"]

    def note(self, name: str, microseconds: float) -> None:
        self.cpu.setdefault(name, []).append(microseconds)


def answer(study: Study) -> None:
    with ExitStack() as stack:
        drain = Drain(study, stack)
        figures = study.compete(list(drain.contenders()))
    for name, values in drain.cpu.items():
        study.figures[f"{name}-cpu"] = Figure(
            label=f"{figures[name].label}: its own processor time", unit="µs/msg", values=values
        )
    for name, goal in GOALS.items():
        if name in figures:
            study.ratios[name] = compared(
                figures["relay"], figures[name], f"the relay : {figures[name].label}", goal=goal
            )
    study.ratios["cpu"] = compared(
        study.figures["relay-cpu"],
        study.figures["frames-cpu"],
        "processor time of the relay : that of the bare loop with the same frames",
        better="lower",
    )


QUESTION = Question("drain", "Relay: how fast does a backlog flow?", answer)

if __name__ == "__main__":
    raise SystemExit(main(QUESTION))

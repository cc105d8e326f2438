"""Question 3: how long does an event take, from the commit of its transaction?

To the broker: until the relay has the confirm and writes its checkpoint. To the handler: until the
transaction of the handler has committed in a consumer. Emitter, relay, consumer, PostgreSQL and
RabbitMQ share the machine.
"""

import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.databases import Database, service_database
from benchmarks.processes import Process, run_worker
from benchmarks.question import Question, Study, main
from benchmarks.queues import drop_queue
from benchmarks.results import Figure, limit, percentile

RATES = (10, 100, 1000)
IDLE_SECONDS = 10
PERCENTILES = (50, 99)
GOALS = {50: 3.0, 99: 20.0}
GOAL_RATE = 100
GOAL_IDLE = 2.0
PATIENCE = 60.0

BROKER, HANDLER = "confirmed by the broker", "handler committed"


class Service:
    """A relay and a consumer that wait for events."""

    def __init__(self, database: Database, relay: Process, consumer: Process, handled: Path):
        self.database = database
        self.relay = relay
        self.consumer = consumer
        self._handled = handled
        self._emitted = 0

    def emit(self, rate: float, seconds: float) -> dict[str, list[float]]:
        """Emit for a while; return the latencies in milliseconds."""
        said = run_worker(
            "steady",
            *map(str, (rate, seconds, self._emitted)),
            DATABASE_URL=self.database.url("steady"),
        )
        committed: Mapping[str, float] = dict(said["committed"])
        self._emitted += len(committed)
        deadline = time.monotonic() + PATIENCE
        while len(handled := self.handled(committed)) < len(committed):
            if time.monotonic() > deadline:
                raise RuntimeError(f"{len(handled)} of {len(committed)} messages were handled")
            time.sleep(0.05)
        confirmed = self.confirmed(committed)
        return {
            BROKER: [(confirmed[each] - at) * 1e3 for each, at in committed.items()],
            HANDLER: [(handled[each] - at) * 1e3 for each, at in committed.items()],
        }

    def handled(self, wanted: Mapping[str, float]) -> dict[str, float]:
        """Return when the handlers' transactions had committed, by message."""
        lines = (line.split() for line in self._handled.read_text().splitlines())
        return {line[0]: float(line[1]) for line in lines if len(line) == 2 and line[0] in wanted}

    def confirmed(self, committed: Mapping[str, float]) -> dict[str, float]:
        """Return when the checkpoints of messages were written, by message."""
        with self.database.connect() as connection:
            connection.execute("CREATE TEMP TABLE emitted (id uuid, at float8)")
            with connection.cursor() as cursor, cursor.copy("COPY emitted FROM STDIN") as copy:
                for row in committed.items():
                    copy.write_row(row)
            rows = connection.execute(
                """
                SELECT e.id::text, (
                    SELECT extract(epoch FROM c.created)::float8
                    FROM django_relay_checkpoint AS c
                    WHERE c.relay = 'default' AND c.lane = m.lane
                      AND m.position BETWEEN c.first_position AND c.position
                      -- Not one that has gone past it before it committed. By snapshot: a relay
                      -- can be through before the emitter has looked at its clock.
                      AND pg_visible_in_snapshot(m.transaction_id, c.ceiling)
                    ORDER BY c.id LIMIT 1)
                FROM emitted AS e JOIN django_outbox_message AS m ON m.message_id = e.id
                """
            ).fetchall()
        return dict(rows)

    def idle(self) -> float:
        """Return which part of a core the relay takes while nothing happens, in percent."""
        time.sleep(1)
        before = self.relay.cpu_seconds()
        time.sleep(IDLE_SECONDS)
        return (self.relay.cpu_seconds() - before) / IDLE_SECONDS * 100


@contextmanager
def service(study: Study) -> Iterator[Service]:
    url = study.servers.broker_url
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        database = stack.enter_context(service_database(study.servers, "latency"))
        (handled := directory / "handled").touch()
        drop_queue(url)
        stack.callback(drop_queue, url)
        variables = {"BROKER_URL": url, "BENCH_HANDLED": str(handled)}
        consumer = stack.enter_context(
            Process.manage("consume", DATABASE_URL=database.url("consumer"), **variables)
        )
        relay = stack.enter_context(
            Process.manage("relay", DATABASE_URL=database.url("relay"), **variables)
        )
        at_work = Service(database, relay, consumer, handled)
        time.sleep(3)  # both are listening
        at_work.emit(50, 1)
        yield at_work


def answer(study: Study) -> None:
    found: dict[tuple[str, int, int], list[float]] = {}
    idle: list[float] = []
    seconds = study.size("seconds for each rate", 8)
    with service(study) as at_work:
        for turn in range(study.rounds):
            for rate in RATES[turn % len(RATES) :] + RATES[: turn % len(RATES)]:
                for to, latencies in at_work.emit(rate, seconds).items():
                    for percent in PERCENTILES:
                        value = percentile(latencies, percent)
                        found.setdefault((to, rate, percent), []).append(value)
                    study.say(
                        f"  round {turn + 1}/{study.rounds}  {rate}/s, {to}: "
                        + ", ".join(f"p{p} {percentile(latencies, p):.1f} ms" for p in PERCENTILES)
                    )
        idle = [at_work.idle() for _ in range(2)]
    for to in (BROKER, HANDLER):
        for rate in RATES:
            for percent in PERCENTILES:
                name = f"{'broker' if to is BROKER else 'handler'}-{rate}-p{percent}"
                study.figures[name] = figure = Figure(
                    label=f"commit → {to}, {rate:,}/s, p{percent}",
                    unit="ms",
                    values=found[to, rate, percent],
                )
                if to is BROKER and rate == GOAL_RATE:
                    study.ratios[name] = limit(figure, GOALS[percent])
    study.figures["idle"] = Figure(label="idle relay", unit="% of a core", values=idle)
    study.ratios["idle"] = limit(study.figures["idle"], GOAL_IDLE)


QUESTION = Question("latency", "Latency: how long does an event take?", answer)

if __name__ == "__main__":
    raise SystemExit(main(QUESTION))

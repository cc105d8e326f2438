"""A running service under fire: its processes, the proxies before its servers, its history."""

import contextlib
import shutil
import signal
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import psycopg
from amqp.exceptions import AMQPError
from kombu import Connection
from kombu.exceptions import KombuError

from project.demo.queues import look
from project.demo.waiting import ticks, wait_until
from tests.kit.services.callbacks import CallbackServer
from tests.proofs.faults import sides
from tests.proofs.faults.callbacks import Callbacks
from tests.proofs.faults.cluster import HARNESS
from tests.proofs.faults.ground import Ground
from tests.proofs.faults.history import Counts, Effect, Event, History
from tests.proofs.faults.processes import FAILPOINT, Person, Service, Writers, environment
from tests.proofs.faults.proxy import Proxy
from tests.proofs.faults.recorder import Recorder
from tests.proofs.faults.service.vocabulary import ANSWERS, HOP_EVERY, TURN

PATIENCE = 30.0
"""Seconds within which anything happens that a fault waits for."""

DISCARDED = """
SELECT p.type AS kind, p.key, (event.data->>'version')::int AS version, event.data->>'tag' AS tag
FROM django_relay_parked AS p
JOIN django_outbox_message AS m ON m.position = p.position AND m.message_id = p.message_id
CROSS JOIN LATERAL (SELECT convert_from(m.data, 'UTF8')::jsonb AS data) AS event
WHERE p.state = 'discarded' AND p.settled_by LIKE '%%(relay_requeue)'
"""
"""What a person has discarded; what a relay gives up by itself is no such thing."""


class FaultError(Exception):
    """A fault could not be brought about, or left no trace: the round proves nothing."""


class PromiseBroken(Exception):
    """Something other than the history shows that a promise was broken."""


class World:
    """Relays, consumers and writers at work. Use as a context manager: it ends them all.

    Relays and consumers reach the servers through proxies, writers and the harness straight.
    """

    def __init__(
        self,
        ground: Ground,
        *,
        relays: int = 2,
        consumers: int = 2,
        writers: int = 2,
        rate: float = 150,
        outage: float = 10,
    ) -> None:
        self.ground = ground
        self.node, self.cluster = ground.node, ground.cluster
        self.outage = outage
        self.exchange = f"faults-{uuid.uuid4().hex[:8]}"
        self.group = f"{self.exchange}-group"
        self.services: list[Service] = []
        self.planted: set[tuple[str, str]] = set()
        """What has been lost on purpose: kinds of breaks, and ids of messages."""
        self._ended: list[Service] = []
        self._sizes = relays, consumers
        self._writers_wanted = writers, rate
        self._writers: list[Writers] = []
        self._counts = Counts(committed=0, in_doubt=0)
        self._commits_last = True
        self._logs = Path(tempfile.mkdtemp(prefix="faults-logs-"))
        self._started = 0
        self._proxies: list[Proxy] = []
        self._queues: set[str] = set()
        self._undo = contextlib.ExitStack()
        self._undo.callback(shutil.rmtree, self._logs, ignore_errors=True)

    # --- Life ---------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        try:
            self._build()
        except BaseException:
            self._undo.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def _build(self) -> None:
        relays, consumers = self._sizes
        self.database = self.ground.make_database()
        self._undo.callback(self.ground.drop_database, self.database)
        self.relay_database = self._proxy(self.cluster.socket)
        self.consumer_database = self._proxy(self.cluster.socket)
        self.relay_broker = self._proxy(("127.0.0.1", self.node.port))
        self.consumer_broker = self._proxy(("127.0.0.1", self.node.port))
        server = self._undo.enter_context(CallbackServer())
        self.callbacks = Callbacks(server)
        self.receiver = self._proxy(("127.0.0.1", server.port))
        self.recorder = Recorder(self.node.url, self.exchange)
        self._undo.callback(self._clear_broker)
        self._undo.callback(self._end_processes)
        for _ in range(consumers):
            self.start_consumer()
        threads, rate = 4, self._writers_wanted[1] / self._writers_wanted[0]
        for number in range(self._writers_wanted[0]):
            url = self.cluster.url(self.database, f"writers-{number}")
            log = self._logs / f"writers-{number}.log"
            env = self._environment(url)
            self._writers.append(Writers(threads, rate, env=env, log=log))
        # Before the relays: what nobody is bound to would be refused.
        self.await_(lambda: self.consuming() == consumers, "the consumers are ready")
        for _ in range(relays):
            self.start_relay()
        self.start_callbacks()

    def _proxy(self, target: Any) -> Proxy:
        proxy = Proxy(target)
        self._undo.callback(proxy.close)
        self._proxies.append(proxy)
        return proxy

    def _end_processes(self) -> None:
        for writers in self._writers:
            writers.close()
        for service in self.services:
            service.kill()

    def _clear_broker(self) -> None:
        self.node.resume()
        self.node.start()
        self.recorder.close()
        with Connection(self.node.url) as link:
            for queue in (self.group, *self._queues):
                link.channel().queue_delete(queue)

    def own(self, queue: str) -> None:
        """Delete a queue in the end that a fault declares."""
        self._queues.add(queue)

    # --- Processes ----------------------------------------------------------------------------

    @property
    def relays(self) -> list[Service]:
        return [service for service in self.services if service.name.startswith("relay")]

    @property
    def consumers(self) -> list[Service]:
        return [service for service in self.services if service.name.startswith("consumer")]

    def start_relay(self, *, failpoint: str = "") -> Service:
        databases, broker = self.relay_database, self.relay_broker
        return self._start("relay", ["relay"], databases, broker, failpoint)

    def start_callbacks(self, *, failpoint: str = "") -> Service:
        """Start a relay that calls back; it is none of `relays`, which publish to the broker."""
        databases, broker = self.relay_database, self.relay_broker
        command = ["relay", "--relay", "callbacks"]
        return self._start("callbacks", command, databases, broker, failpoint)

    def start_consumer(self, *, failpoint: str = "") -> Service:
        databases, broker = self.consumer_database, self.consumer_broker
        command = ["consume", "--group", self.group]
        return self._start("consumer", command, databases, broker, failpoint)

    def _start(
        self, kind: str, command: list[str], database: Proxy, broker: Proxy, failpoint: str
    ) -> Service:
        self._started += 1
        name = f"{kind}-{self._started}"
        url = f"postgresql://postgres@127.0.0.1:{database.port}/{self.database}"
        env = self._environment(
            f"{url}?application_name={name}&sslmode=disable&gssencmode=disable",
            BROKER_URL=f"amqp://guest:guest@127.0.0.1:{broker.port}//",
            FAULTS_CLOCK="1",
            **({FAILPOINT: failpoint} if failpoint else {}),
        )
        service = Service(name, *command, env=env, log=self._logs / f"{name}.log")
        self.services.append(service)
        return service

    def _environment(self, database_url: str, **variables: str) -> dict[str, str]:
        return environment(
            DATABASE_URL=database_url,
            FAULTS_EXCHANGE=self.exchange,
            FAULTS_GROUP=self.group,
            FAULTS_CALLBACKS=f"http://127.0.0.1:{self.receiver.port}/settled",
            **variables,
        )

    @property
    def environment_of_people(self) -> dict[str, str]:
        """That of a command which somebody gives in the service's name."""
        return self._environment(self.cluster.url(self.database, "person"))

    def person(self) -> Person:
        """Return somebody who gives commands in the service's name."""
        return Person(env=self.environment_of_people, log=self._logs / "person.log")

    def forget(self, service: Service) -> None:
        """Bury a process that has ended as it should."""
        service.kill()
        self.services.remove(service)
        self._ended.append(service)

    def check_alive(self) -> None:
        """Raise PromiseBroken if a process has ended by itself; put another one in its place."""
        dead = [service for service in self.services if not service.running]
        for service in dead:
            self.forget(service)
            {
                "relay": self.start_relay,
                "consumer": self.start_consumer,
                "callbacks": self.start_callbacks,
            }[service.name.partition("-")[0]]()
        if dead:
            raise PromiseBroken("\n".join(map(_obituary, dead)))

    def mend(self) -> None:
        """Undo what a strike may have left behind when it was interrupted."""
        for proxy in self._proxies:
            proxy.flow()
        for service in self.services:
            service.send(signal.SIGCONT)
        self.node.resume()
        self.node.start()

    def change_consumers(self) -> None:
        """Replace the consumers, which tell their last figures as they end."""
        old = self.consumers
        for service in old:
            code = service.stop()
            self.forget(service)
            if code != 0:
                raise PromiseBroken(_obituary(service))
        for _ in old:
            self.start_consumer()
        self.await_(lambda: self.consuming() == len(old), "the new consumers are ready")

    def suppressed(self) -> int:
        """Return how many duplicates the consumers report; those that were killed do not."""
        everyone = [*self._ended, *self.services]
        return sum(int(service.last_figures().get("duplicates", 0)) for service in everyone)

    # --- Work ---------------------------------------------------------------------------------

    def go(self) -> None:
        for writers in self._writers:
            writers.go()

    def pause(self) -> None:
        """Let the writers finish, so that the truth stands still."""
        counts = [writers.pause() for writers in self._writers]
        self._counts = Counts(
            committed=sum(count.committed for count in counts),
            in_doubt=sum(count.in_doubt for count in counts),
        )

    def doubt_commits(self) -> None:
        """Leave it to the database alone what has committed: crashes undo what writers know of."""
        self._commits_last = False

    def query(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Run a statement in the service's database."""
        return self.cluster.query(self.database, statement, parameters)

    def number(self, statement: str, *parameters: Any) -> int:
        [(number,)] = self.query(statement, *parameters)
        return int(number or 0)

    def committed(self) -> int:
        """How many changes have committed; also the mark for pending()."""
        return self.number("SELECT max(id) FROM faults_change")

    def events(self) -> int:
        """How many events there are: of the changes, and of their handlers once all is done."""
        return self.number(
            f"WITH discarded AS MATERIALIZED ({DISCARDED}) "
            f"SELECT count(*) + count(*) FILTER (WHERE {TURN} %% %s = 0) FROM faults_change AS c "
            "WHERE NOT EXISTS (SELECT FROM discarded AS d WHERE d.kind = c.kind AND d.tag = c.tag)",
            HOP_EVERY,
        )

    def effects(self) -> int:
        return self.number("SELECT count(*) FROM faults_effect")

    def pending(self) -> int:
        """How many effects are still to come, and what is to be said of them."""
        done = (
            "SELECT count(*) FROM (SELECT DISTINCT handler, tag FROM faults_effect "
            "WHERE handler <> %s) AS done"
        )
        return (self.events() - self.number(done, ANSWERS)) or sides.pending(self)

    def discarded(self) -> list[Event]:
        """Return what a person has discarded, by the relays' own record of it."""
        return [Event(*row) for row in self.query(DISCARDED)]

    def consuming(self) -> int:
        """How many consumers read from the queue."""
        queue = look(self.node.url, self.group)
        return queue.consumers if queue else 0

    def backends(self, application: str = "%") -> list[int]:
        """Return the process ids of the sessions in the database, all but our own."""
        rows = self.query(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() "
            "AND application_name <> %s AND application_name LIKE %s",
            HARNESS,
            application,
        )
        return [pid for (pid,) in rows]

    # --- Waiting ------------------------------------------------------------------------------

    def hold(self, seconds: float) -> None:
        """Let a fault last so long."""
        for _ in ticks(seconds):
            self.check_alive()

    def await_(self, condition: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
        """Wait for something that a fault needs, or needs as a proof that it has struck."""

        def come_true() -> bool:
            self.check_alive()
            try:
                return bool(condition())
            except (psycopg.OperationalError, KombuError, AMQPError, OSError):
                return False  # a server that is just coming back

        if not wait_until(come_true, seconds):
            raise FaultError(f"Not within {seconds:g} s: {what}.\n{self.describe()}")

    def await_more(self, events: int = 20) -> None:
        """Wait until so many more events have been handled."""
        goal = self.effects() + events
        self.await_(lambda: self.effects() >= goal, f"{events} more events are handled")

    def await_said(self, services: list[Service], pattern: str, marks: list[int]) -> None:
        """Wait until one of the services has printed something that matches."""
        self.await_(
            lambda: any(s.said(pattern, m) for s, m in zip(services, marks, strict=True)),
            f"one of {[service.name for service in services]} says {pattern!r}",
        )

    def describe(self) -> str:
        """Return the end of what each process has printed."""
        return "\n".join(
            f"--- {service.name}\n{service.printed()[-1500:]}" for service in self.services
        )

    # --- History ------------------------------------------------------------------------------

    def history(self) -> History:
        self.recorder.collect()
        changes = self.query("SELECT kind, key, version, tag FROM faults_change ORDER BY id")
        effects = self.query(
            "SELECT handler, tag FROM faults_effect WHERE handler <> %s ORDER BY id", ANSWERS
        )
        return History(
            committed=[Event(*row) for row in changes],
            published=self.recorder.published,
            effects=[Effect(*row) for row in effects],
            writers=self._known_to_writers(),
            recorded_all=self.recorder.complete,
            discarded=self.discarded(),
        )

    def _known_to_writers(self) -> Counts:
        if self._commits_last:
            return self._counts
        return Counts(committed=0, in_doubt=self._counts.committed + self._counts.in_doubt)


def _obituary(service: Service) -> str:
    return (
        f"{service.name} ended by itself with exit code {service.exit_code}:\n"
        f"{service.printed()[-1500:]}"
    )

"""One run of the demo: write, crash, wait until all is done, compare; lose messages, reconcile."""

import math
import random
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID, uuid4

import factory.random
from django.utils import timezone

from project.demo.audit import Audit
from project.demo.display import Display
from project.demo.facts import gather
from project.demo.findings import Findings
from project.demo.processes import ProcessError
from project.demo.reconcile import Facts, Report, reconcile
from project.demo.stage import Stage
from project.demo.truth import Truth
from project.demo.waiting import ticks
from project.demo.writers import Gate, Writer
from project.shipping.models import Closure

CRASHES = 3
# Two for each relay after the first: see _start_relay().
_MARKS = 2 * CRASHES
_PATIENCE = 20.0
"""Seconds in which a new relay should have published something."""
_GLANCE = 0.5
"""Seconds between two looks at how far the run has come."""


@dataclass(slots=True)
class Run:
    """A run of so many orders from so many writers, which has so many seconds."""

    stage: Stage
    display: Display
    orders: int
    writers: int
    seed: int
    timeout: float
    truth: Truth = field(default_factory=Truth)
    _random: random.Random = field(init=False)
    _threads: list[Writer] = field(default_factory=list)
    _next_glance: float = 0.0
    _deadline: float = math.inf

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)  # noqa: S311

    def execute(self) -> tuple[Report, Findings | None]:
        """Run, and return what became of it; what has not come by the deadline is lost.

        The second part, with its findings, only follows a first that was done in time.
        """
        self._deadline = time.monotonic() + self.timeout
        began = timezone.now()
        factory.random.reseed_random(self.seed)  # type: ignore[no-untyped-call]
        Closure.objects.using(
            self.stage.services.shipping
        ).all().delete()  # of a run before, which somebody looked at
        self.stage.start_consumers()
        self.stage.start_worker()
        self.stage.start_relay_to_carrier()
        gate = Gate(_MARKS)
        with self._writing(gate):
            self.display.say(
                f"{self.writers} writers place {self.orders} orders (seed {self.seed}); the relay "
                f"publishes to {self.stage.audience}."
            )
            self._crash_after_publishing()
            if self.stage.groups:
                self._crash_a_consumer()
            if self.stage.carrier is not None:
                self.stage.carrier.kill()
                self.display.say("SIGKILL of the carrier, the other project; starting it again.")
            for crash in range(2, CRASHES + 1):
                self._start_relay(gate)
                self._crash_at_random(crash)
            self._start_relay(gate)
            finished = self._wait()
        findings = self._audit(began) if finished else None
        self.stage.stop()
        # Only now can nothing change any more.
        suppressed = self.stage.duplicates_suppressed()
        facts = self._facts(duplicates_suppressed=suppressed)
        return replace(reconcile(facts), finished=finished), findings

    def _audit(self, began: datetime) -> Findings:
        return Audit(self.stage, self.display, self.truth, began).perform()

    @contextmanager
    def _writing(self, gate: Gate) -> Iterator[None]:
        """Run the writers; in the end, however it comes, they have stopped."""
        stop = threading.Event()
        name = f"demo-{uuid4().hex[:8]}"
        shares = [self.orders // self.writers] * self.writers
        for index in range(self.orders % self.writers):
            shares[index] += 1
        self._threads = [
            Writer(
                f"{name}-{index}", seed=self._random.getrandbits(32), truth=self.truth, stop=stop
            ).assign(share, gate)
            for index, share in enumerate(shares)
        ]
        for writer in self._threads:
            writer.start()
        try:
            yield
        finally:
            stop.set()
            gate.open_all()
            for writer in self._threads:
                writer.join()

    def _crash_after_publishing(self) -> None:
        """Lose a relay at the worst moment: the page is published, the checkpoint is not there."""
        self.stage.start_relay(failpoint=f"relay.published:{self._random.randint(1, 3)}")
        assert self.stage.relay is not None
        for _ in self._ticks(_PATIENCE):
            self._glance()
            if self.stage.relay.was_killed:
                self._crashed(1, "after publishing a page, before its checkpoint")
                return
            self.stage.check()
        self._crashed(1, "that published too little to die by itself")

    def _start_relay(self, gate: Gate) -> None:
        """Start another relay while orders are placed, and more of them once it publishes."""
        gate.open_next()
        self.stage.start_relay()
        for _ in self._ticks(_PATIENCE):
            report = self._look_after()
            idle = report is not None and report.published == report.emitted
            if idle or self.stage.has_published():
                break
        gate.open_next()

    def _crash_at_random(self, crash: int) -> None:
        """Lose a relay at any moment while it publishes what is being written."""
        for _ in self._ticks(self._random.uniform(0.1, 1.0)):
            self._look_after()
        busy = self.stage.has_published()
        self._crashed(crash, "while it publishes" if busy else "before it publishes anything")

    def _crashed(self, crash: int, when: str) -> None:
        assert self.stage.relay is not None
        self.stage.relay.kill()
        self.display.say(f"SIGKILL of the relay {when} ({crash} of {CRASHES}); starting another.")

    def _crash_a_consumer(self) -> None:
        """Lose a consumer while it handles what the first relay has published.

        Before the next relay publishes some of it again, so that the figures of the consumers that
        live on tell of these duplicates.
        """
        group = self._random.choice(self.stage.groups)
        self.stage.consumers[group].kill()
        self.display.say(f"SIGKILL of the consumer of {group!r}; starting another.")
        self.stage.start_consumer(group)

    def _wait(self) -> bool:
        """Wait until everything is written, published and handled; False if time runs out."""
        writing = True
        for _ in self._ticks():
            report = self._look_after()
            if writing and not any(writer.is_alive() for writer in self._threads):
                writing = False
                self.display.say("All orders are placed; waiting until all is handled.")
            elif not writing and report and report.complete and self.stage.queues_empty():
                return True
        return False

    def _ticks(self, seconds: float = math.inf) -> Iterator[float]:
        return ticks(min(seconds, self._deadline - time.monotonic()))

    def _look_after(self) -> Report | None:
        """See that all is well with the processes, and glance."""
        self.stage.check()
        return self._glance()

    def _glance(self) -> Report | None:
        """See that all is well with the writers; if it is time, show how far the run has come."""
        for writer in self._threads:
            if writer.error is not None:
                raise ProcessError(f"Writer {writer.name} failed: {writer.error}") from writer.error
        return self._report() if time.monotonic() >= self._next_glance else None

    def _facts(self, duplicates_suppressed: int = 0) -> Facts:
        return gather(
            self.truth,
            duplicates_suppressed=duplicates_suppressed,
            tasks=bool(self.stage.url),
            parcels_of=self._parcels if self.stage.carrier is not None else None,
            services=self.stage.services,
        )

    def _parcels(self, orders: Collection[UUID]) -> Mapping[UUID, int]:
        """Ask the carrier; while it does not answer it has none, so that nothing is complete."""
        carrier = self.stage.carrier
        return carrier.parcels(orders) if carrier is not None and carrier.is_up() else {}

    def _report(self) -> Report:
        started = time.monotonic()
        report = reconcile(self._facts())
        self.display.progress(report, self.orders)
        # A large run takes long to look at: give it most of the time.
        now = time.monotonic()
        self._next_glance = now + max(_GLANCE, 4 * (now - started))
        return report

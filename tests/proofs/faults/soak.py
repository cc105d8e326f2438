"""Random faults one after the other for many minutes, while memory is watched."""

import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tests.proofs.faults import sides
from tests.proofs.faults.catalogue import FAULTS, Fault
from tests.proofs.faults.history import check
from tests.proofs.faults.memory import Sample, Trend, trend
from tests.proofs.faults.processes import Service
from tests.proofs.faults.round import KEPT
from tests.proofs.faults.world import FaultError, PromiseBroken, World

DRAINED_WITHIN = 60.0
_LATE_SECONDS = 180.0
"""How much longer than allowed to wait, to tell what is late from what is lost."""
FLAT_PER_MINUTE = 1.0
"""Growth of a process, in MiB a minute, up to which its memory is called flat."""
_SAMPLE_SECONDS = 1.0
_CALM_SECONDS = (1.0, 4.0)
_UNFIT = {
    "none",
    "log-emptied",  # waits until all is handled
    "restored-over",  # takes the longer the more there is
    "messages-lost",  # counts its breaks
    "an-hour",  # waits until all is stated
    "queue-deleted",  # waits for an empty queue, and the recording gets a gap
    "parked-discarded",  # what an outage leaves in doubt may be discarded, and have been published
    # What else was full a moment ago may refuse other topics, too.
    "queue-full-beside-quorum",
    "queue-full-beside-classic",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Soaked:
    """What a soak has shown."""

    seconds: float
    struck: Counter[str]
    events: int
    repeated: int
    drained: float
    memory: dict[str, Trend]
    problems: tuple[str, ...]

    @property
    def verdict(self) -> str:
        return "; ".join(self.problems) or KEPT


class Watch(threading.Thread):
    """Samples the memory of processes until it is stopped."""

    def __init__(self, services: Sequence[Service]) -> None:
        super().__init__(daemon=True)
        self.samples: dict[str, list[Sample]] = {service.name: [] for service in services}
        self._services = services
        self._stopped = threading.Event()

    def run(self) -> None:
        started = time.monotonic()
        while not self._stopped.wait(_SAMPLE_SECONDS):
            for service in self._services:
                if service.running:
                    seconds = time.monotonic() - started
                    sample = Sample(seconds, service.resident_bytes())
                    self.samples[service.name].append(sample)

    def stop(self) -> None:
        self._stopped.set()
        self.join()


def fitting(faults: Sequence[Fault] = FAULTS) -> list[Fault]:
    """Return the faults that can strike at any time, in a service that is at work on a backlog."""
    return [fault for fault in faults if fault.name not in _UNFIT]


def soak(world: World, minutes: float, *, seed: int) -> Soaked:
    """Let faults strike for so many minutes, then judge the whole history.

    A process that kills itself is always an additional one: those that were there from the start
    have to last, and their memory is watched.
    """
    chance, faults = random.Random(seed), fitting()
    watch = Watch(list(world.services))
    struck: Counter[str] = Counter()
    problems: list[str] = []
    started = time.monotonic()
    world.go()
    world.await_more()
    watch.start()
    while time.monotonic() - started < minutes * 60:
        fault = chance.choice(faults)
        print(f"{time.monotonic() - started:6.0f} s  {fault.name}", flush=True)
        try:
            fault.strike(world)
            struck[fault.name] += 1
            world.hold(chance.uniform(*_CALM_SECONDS))
        except PromiseBroken as exc:
            problems.append(f"{fault.name}: {exc}")
        except FaultError as exc:
            # Between faults there is no waiting for calm, so one may find nothing to break.
            print(f"          left no trace: {str(exc).splitlines()[0]}", flush=True)
            struck[f"{fault.name} (no trace)"] += 1
        finally:
            world.mend()
    world.pause()
    over = time.monotonic()
    try:
        everything = DRAINED_WITHIN + _LATE_SECONDS
        world.await_(lambda: world.pending() == 0, "everything is done", everything)
    except (FaultError, PromiseBroken) as exc:
        problems.append(str(exc))
    drained = time.monotonic() - over
    if drained > DRAINED_WITHIN:
        problems.append(f"not drained within {DRAINED_WITHIN:g} s")
    watch.stop()
    report = check(world.history())
    if not report.clean:
        problems.append(str(report))
    problems += sides.flaws(world)
    memory = {name: trend(found) for name, found in watch.samples.items() if len(found) >= 4}
    for name, found in memory.items():
        if found.per_minute > FLAT_PER_MINUTE:
            problems.append(f"{name} grows by {found.per_minute:.2f} MiB a minute")
    return Soaked(
        seconds=over - started,
        struck=struck,
        events=report.events,
        repeated=report.repeated,
        drained=drained,
        memory=memory,
        problems=tuple(problems),
    )

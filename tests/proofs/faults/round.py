"""One round: the service works, a fault strikes and is over, everything must be done in time."""

import time
from dataclasses import dataclass

from project.demo.waiting import wait_until
from tests.proofs.faults import sides
from tests.proofs.faults.catalogue import Fault
from tests.proofs.faults.history import check
from tests.proofs.faults.world import PromiseBroken, World

KEPT = "kept"
_LATE_SECONDS = 60.0
"""How much longer than allowed to wait, to tell what is late from what is lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a round has shown. `problems` is empty if every promise was kept.

    events: committed and caused in this round; repeated: messages that were published again;
    suppressed: duplicates that the consumers reported; drained: seconds from the end of the
    fault until everything was done.
    """

    fault: Fault
    events: int
    repeated: int
    suppressed: int
    drained: float
    problems: tuple[str, ...]

    @property
    def verdict(self) -> str:
        return "; ".join(self.problems) or KEPT


def run_round(world: World, fault: Fault, *, count_suppressed: bool = False) -> Outcome:
    """Let a fault strike a world at work, and judge the complete history of the world since then.

    Leaves the writers paused. `count_suppressed` replaces the consumers, which tell their last
    figures only in the end. Raises FaultError or UnusableHistory if the round proves nothing.
    """
    problems = []
    before = world.events(), world.recorder.repeated, world.suppressed()
    world.go()
    world.await_more(10)
    try:
        fault.strike(world)
    except PromiseBroken as exc:
        problems.append(str(exc))
    finally:
        world.mend()
    over = time.monotonic()
    mark = world.committed()
    world.await_(lambda: world.committed() > mark + 10, "the writers go on after the fault")
    world.pause()
    patience = fault.drained_within + _LATE_SECONDS
    wait_until(lambda: world.pending() == 0, patience - (time.monotonic() - over))
    drained = time.monotonic() - over
    if drained > fault.drained_within:
        problems.append(f"not drained within {fault.drained_within:g} s")
    try:
        world.check_alive()
        if count_suppressed:
            world.change_consumers()
    except PromiseBroken as exc:
        problems.append(str(exc))
    report = check(world.history())
    if not report.clean:
        problems.append(str(report))
    problems += sides.flaws(world)
    events, repeated, suppressed = before
    return Outcome(
        fault=fault,
        events=report.events - events,
        repeated=report.repeated - repeated,
        suppressed=world.suppressed() - suppressed,
        drained=drained,
        problems=tuple(problems),
    )

"""Each quick fault once: nothing lost, no effect twice, order per key kept, drained in time.

`make faults` has all of them, in several rounds.
"""

from collections.abc import Iterator

import pytest

from outbox.failpoints import FAILPOINTS
from tests.kit.services.rabbitmq import RabbitNode
from tests.proofs.faults import sides
from tests.proofs.faults.catalogue import ELSEWHERE, FAULTS, Fault
from tests.proofs.faults.ground import Ground
from tests.proofs.faults.round import KEPT, run_round
from tests.proofs.faults.statements import await_agreement
from tests.proofs.faults.world import World

QUICK = [fault for fault in FAULTS if not fault.slow]


class Worlds:
    """Gives every test the same world as long as it is sound: a broken one proves nothing more."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._world: World | None = None

    def take(self) -> World:
        if self._world is None:
            self._world = World(self._ground, rate=100).__enter__()
        return self._world

    def agree(self) -> None:
        """Let statements go over all that was sent under these faults: they find nothing."""
        if self._world is not None:
            await_agreement(self._world)
            assert sides.disagreements(self._world) == ""

    def discard(self) -> None:
        world, self._world = self._world, None
        if world is not None:
            world.__exit__()


@pytest.fixture(scope="module")
def worlds(_rabbit_node: RabbitNode) -> Iterator[Worlds]:
    _rabbit_node.start()
    with Ground(_rabbit_node) as ground:
        found = Worlds(ground)
        try:
            yield found
            found.agree()
        finally:
            found.discard()


@pytest.mark.slow  # it has servers of its own: once is enough, whatever else the tests run on
@pytest.mark.timeout(240)
@pytest.mark.parametrize("fault", QUICK, ids=lambda fault: fault.name)
def test_promises_are_kept(fault: Fault, rabbit_node: RabbitNode, worlds: Worlds) -> None:
    """A complete history with this fault in it breaks no promise."""
    try:
        outcome = run_round(worlds.take(), fault)
        assert outcome.verdict == KEPT
    except BaseException:
        worlds.discard()
        raise


def test_every_failpoint_has_its_fault() -> None:
    """A new point at which to kill is not forgotten here."""
    killed = {fault.name.removeprefix("kill-") for fault in FAULTS if fault.name[:5] == "kill-"}

    assert killed | ELSEWHERE == FAILPOINTS
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)

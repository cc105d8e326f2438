"""Whoever is called back cannot be reached, or his answers are lost."""

from tests.proofs.faults.proxy import Way
from tests.proofs.faults.world import World

_SOME = 2


def cut(world: World, seconds: float) -> None:
    """Connections to the receiver are reset, and new ones as well."""
    world.receiver.cut()
    _await_untold(world)
    world.hold(seconds)
    world.receiver.flow()


def lose_answers(world: World) -> None:
    """The receiver gets what it is sent, and none of its answers arrives."""
    world.callbacks.collect()
    before = world.callbacks.repeated
    world.receiver.stall(Way.DOWN)

    def came_again() -> bool:
        world.callbacks.collect()
        return world.callbacks.repeated >= before + 1

    world.await_(came_again, "callbacks come again")
    world.receiver.reset()


def _await_untold(world: World) -> None:
    """Wait until some ends are parked, since nobody takes them."""
    world.await_(
        lambda: (
            world.number(
                "SELECT count(*) FROM django_relay_parked WHERE relay = 'callbacks' "
                "AND state = 'parked' AND reason = 'refused'"
            )
            >= _SOME
        ),
        f"{_SOME} callbacks are parked",
    )

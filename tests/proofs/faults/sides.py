"""What is still to be said between the two sides of a world, and what they say that is wrong."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tests.proofs.faults import acknowledgements, callbacks, requests, statements

if TYPE_CHECKING:
    from tests.proofs.faults.world import World


_UNSAID = (
    f"SELECT ({requests.REQUESTS}) - ({requests.SETTLED}) + ({acknowledgements.OPEN}) AS unsaid"
)


def pending(world: "World") -> int:
    """Return how many settlements, acknowledgements and callbacks are still to come."""
    world.callbacks.collect()
    if left := world.number(_UNSAID):
        return left
    return callbacks.missing(_wanted(world), world.callbacks.told)


def flaws(world: "World") -> Iterator[str]:
    """Yield what is wrong when all should be done."""
    given_up = frozenset(event.tag for event in world.discarded())
    rows = [requests.Standing(*row) for row in world.query(requests.STANDING)]
    [standing] = world.query(acknowledgements.STANDING)
    wrong = [(name, was, became) for name, was, became in world.query(acknowledgements.WRONG)]
    found = (
        requests.flaws(rows, world.number(requests.REQUESTS), given_up),
        acknowledgements.flaws(acknowledgements.Standing(*standing), wrong),
        callbacks.flaws(_wanted(world), world.callbacks.told),
    )
    yield from filter(None, found)


def _wanted(world: "World") -> list[callbacks.Wanted]:
    return [callbacks.Wanted(*row) for row in world.query(callbacks.WANTED)]


def disagreements(world: "World", *, ever: bool = False) -> str:
    """Return which breaks are false when both sides have agreed, or ever were ones; "" if none."""
    rows = world.query(statements.EVER if ever else statements.STILL)
    return statements.flaws([statements.Break(*row) for row in rows], world.planted)

"""People take parked messages into their hands while relays are at work."""

from tests.proofs.faults.processes import Person
from tests.proofs.faults.service.vocabulary import RARE, RARE_KEYS
from tests.proofs.faults.strikes.queues import unbound
from tests.proofs.faults.world import FaultError, PromiseBroken, World

_DECIDED, _EMPTIED, *_KEPT = RARE_KEYS
"""Of the first key the refused events are discarded, of the second what waits behind as well."""
_DISCARDS = (
    ("relay_requeue", "--key", _DECIDED, "--type", RARE, "--discard"),
    ("relay_requeue", "--key", _EMPTIED, "--discard"),
)
_REQUEUE = ("relay_requeue", "--all")
_TURNS = 4
_RACES = 20


def discard_and_requeue(world: World) -> None:
    """A person discards the parked messages of two keys and requeues all others, over and over.

    First while no queue is bound, so that they are refused again and more come; then while one is
    being bound, and relay and person reach for the same messages.
    """
    mark = len(world.discarded())
    with world.person() as person:
        with unbound(world):
            for _ in range(_TURNS):
                world.await_(
                    lambda: _parked(world) == set(RARE_KEYS), "a message of each is parked"
                )
                _let(person, _REQUEUE, *_DISCARDS)
            told = person.count("--discard")
            if not (told and person.count() > told):
                raise FaultError("nothing was discarded, or nothing requeued")
            world.await_(lambda: _parked(world) == set(RARE_KEYS), "a message of each is parked")
            for _ in range(_RACES):
                person.tell(*_REQUEUE)
                for discard in _DISCARDS:
                    person.tell(*discard)
        person.listen()
        told = person.count("--discard")
    found = world.discarded()[mark:]
    if told != len(found):
        raise PromiseBroken(f"{told} messages were said to be discarded, {len(found)} are")
    if strange := {event.key for event in found} - {_DECIDED, _EMPTIED}:
        raise PromiseBroken(f"messages of {sorted(strange)} are discarded, which nobody wanted")


def _let(person: Person, *commands: tuple[str, ...]) -> None:
    for command in commands:
        person.tell(*command)
    person.listen()


def _parked(world: World) -> set[str]:
    rows = world.query(
        "SELECT DISTINCT key FROM django_relay_parked WHERE state = 'parked' AND key IS NOT NULL"
    )
    return {key for (key,) in rows}

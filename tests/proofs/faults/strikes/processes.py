"""Processes are killed, stand still, or are shown another time of day."""

import random
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.proofs.faults import clock
from tests.proofs.faults.processes import Service
from tests.proofs.faults.world import PATIENCE, FaultError, World

_CATCH_DELAY = 0.03
"""Seconds by which a server is delayed to catch a process in the middle of its work."""


_IN_RELAYS = ("relay.", "outbox.deliver")
"""What is scheduled a relay delivers."""


def kill_at(
    world: World, failpoint: str, *, passes: int = 4, start: Callable[..., Service] | None = None
) -> None:
    """One more relay or consumer kills itself, at one of its first passes of the point."""
    spec = f"{failpoint}:{random.randint(1, passes)}"
    in_relay = failpoint.startswith(_IN_RELAYS)
    start = start or (world.start_relay if in_relay else world.start_consumer)
    doomed = start(failpoint=spec)
    world.services.remove(doomed)
    try:
        world.await_(lambda: not doomed.running, f"a process is killed at {spec}")
    finally:
        world.services.append(doomed)
        world.forget(doomed)
    if doomed.exit_code != -signal.SIGKILL:
        raise FaultError(f"{doomed.name} was not killed at {spec}:\n{doomed.printed()}")


def kill_alone_at(world: World, failpoint: str) -> None:
    """One more consumer kills itself, at what only one does at a time; no other does it then."""
    with standing_still(world.consumers):
        kill_at(world, failpoint, passes=1)


def kill_callbacks_at(world: World, failpoint: str) -> None:
    """One more relay that calls back kills itself; no other calls back meanwhile."""
    others = [each for each in world.services if each.name.startswith("callbacks")]
    with standing_still(others):
        kill_at(world, failpoint, start=world.start_callbacks)


@contextmanager
def standing_still(services: list[Service]) -> Iterator[None]:
    """Stop processes for a while."""
    for each in services:
        each.send(signal.SIGSTOP)
    try:
        yield
    finally:
        for each in services:
            each.send(signal.SIGCONT)


def stop_relay(world: World, *, terminate: bool) -> None:
    """A relay stands still in the middle of a page, and goes on when the others have overtaken it.

    With `terminate` the server ends its session, as a pooler or a person may: another relay takes
    over its lane. Without, the lane waits and the others go on.
    """
    world.relay_broker.delay(_CATCH_DELAY)
    stopped, lanes = _stop_in_transaction(world, world.relays)
    world.relay_broker.delay(0)
    try:
        if terminate:
            _terminate(world, stopped)
        else:
            lanes = [lane for lane in range(4) if lane not in lanes]
        mark = world.number("SELECT max(id) FROM django_relay_checkpoint")
        world.await_(
            lambda: world.number(
                "SELECT count(*) FROM django_relay_checkpoint "
                "WHERE lane = ANY(%s) AND id > %s AND relay = 'default'",
                lanes,
                mark,
            ),
            f"another relay publishes in lanes {lanes}",
        )
        world.await_more()
    finally:
        stopped.send(signal.SIGCONT)


def stop_consumer(world: World) -> None:
    """A consumer stands still in the middle of a batch until the broker gives it up.

    Its session in the database is ended by the server, so that what it had claimed is free.
    """
    world.consumer_database.delay(_CATCH_DELAY)
    stopped, _ = _stop_in_transaction(world, world.consumers)
    world.consumer_database.delay(0)
    others = len(world.consumers) - 1
    try:
        _terminate(world, stopped)
        world.await_(lambda: world.consuming() == others, "the broker gives the consumer up")
        world.await_more()
    finally:
        stopped.send(signal.SIGCONT)
    world.await_(lambda: world.consuming() == others + 1, "the consumer is back")


def step_clocks(world: World, *, back_first: bool) -> None:
    """The clocks of all relays and consumers jump by hours, and later return."""
    away, home = (clock.BACK, clock.FORWARDS) if back_first else (clock.FORWARDS, clock.BACK)
    sign = -1 if back_first else 1
    for number, offset in ((away, sign * clock.STEP_SECONDS), (home, 0)):
        marks = [service.mark() for service in world.services]
        for service in world.services:
            service.send(number)
        said = re.escape(f"{clock.SAID} {offset:+}")
        world.await_(
            lambda said=said, marks=marks: all(
                service.said(said, mark)
                for service, mark in zip(world.services, marks, strict=True)
            ),
            f"all clocks say {offset:+}",
        )
        world.await_more(50)


def _stop_in_transaction(world: World, candidates: list[Service]) -> tuple[Service, list[int]]:
    """Stop one of the processes while its transaction is open; return the lanes it holds, too."""
    caught: list[tuple[Service, list[int]]] = []

    def catch() -> bool:
        service = random.choice(candidates)
        service.send(signal.SIGSTOP)
        try:
            lanes = _open_transaction(world, service)
        except BaseException:
            service.send(signal.SIGCONT)
            raise
        if lanes is None or not (lanes or service in world.consumers):
            service.send(signal.SIGCONT)
            return False
        caught.append((service, lanes))
        return True

    world.await_(catch, "a process is caught in a transaction", PATIENCE)
    return caught[0]


def _open_transaction(world: World, service: Service) -> list[int] | None:
    """Return the lanes that a process holds in its transaction; None if there is none."""
    # The backend may still be at work on the last statement that it got.
    rows = world.query(
        "SELECT l.objid::bigint FROM pg_stat_activity a "
        "LEFT JOIN pg_locks l ON l.pid = a.pid AND l.locktype = 'advisory' "
        "AND l.mode = 'ExclusiveLock' AND l.objsubid = 2 "  # of a lane, by two keys
        "WHERE a.application_name = %s AND a.state = 'idle in transaction'",
        service.name,
    )
    return [lane for (lane,) in rows if lane is not None] if rows else None


def _terminate(world: World, service: Service) -> None:
    for pid in world.backends(service.name):
        world.query("SELECT pg_terminate_backend(%s, 5000)", pid)
    if world.backends(service.name):
        raise FaultError(f"the sessions of {service.name} cannot be ended")

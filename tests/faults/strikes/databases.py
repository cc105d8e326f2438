"""PostgreSQL ends sessions, restarts, becomes slow, or cannot be reached."""

from tests.faults.processes import Service
from tests.faults.proxy import Proxy
from tests.faults.world import FaultError, World

_AWAY = "is away"


def terminate_each(world: World) -> None:
    """Every session of every process is ended, one after the other."""
    ended = 0
    for pid in world.backends():
        ended += sum(gone for (gone,) in world.query("SELECT pg_terminate_backend(%s, 5000)", pid))
        world.await_more(5)
    if not ended:
        raise FaultError("there was no session to end")


def terminate_all(world: World) -> None:
    """All sessions are ended at once, of relays, consumers and writers."""
    [(ended,)] = world.query(
        "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    if not ended:
        raise FaultError("there was no session to end")


def restart(world: World, mode: str) -> None:
    """The server restarts, in order ("fast") or with recovery from a crash ("immediate")."""
    before = world.query("SELECT pg_postmaster_start_time()")
    world.cluster.restart(mode)
    if world.query("SELECT pg_postmaster_start_time()") == before:
        raise FaultError("the server did not restart")


def cut(world: World, side: str, seconds: float) -> None:
    """Connections to the database are reset in both directions, and new ones as well."""
    services, proxy = _side(world, side)
    marks = [service.mark() for service in services]
    proxy.cut()
    world.await_said(services, _AWAY, marks)
    world.hold(seconds)
    proxy.flow()


def stall(world: World, side: str, seconds: float, *, reset: bool) -> None:
    """Nothing passes to or from the database; later it does, or the connections are reset."""
    _, proxy = _side(world, side)
    proxy.stall()
    done = _done(world, side)
    world.hold(seconds)
    if _done(world, side) > done + 1:  # one statement may have been on its way
        raise FaultError(f"the {side} went on although nothing passed")
    if reset:
        proxy.reset()
    proxy.flow()


def slow(world: World, seconds: float) -> None:
    """The consumers' database takes its time for each answer, as with a slow disk."""
    before = world.consumer_database.chunks_delayed
    world.consumer_database.delay(0.02)
    world.hold(seconds)
    world.await_(
        lambda: world.consumer_database.chunks_delayed > before + 50, "50 pieces are delayed"
    )
    world.consumer_database.flow()


def _side(world: World, side: str) -> tuple[list[Service], Proxy]:
    if side == "relays":
        return world.relays, world.relay_database
    return world.consumers, world.consumer_database


def _done(world: World, side: str) -> int:
    """Return how many transactions one side has committed."""
    if side == "relays":
        return world.number("SELECT count(*) FROM django_relay_checkpoint")
    return world.number("SELECT count(DISTINCT xmin::text) FROM faults_effect")

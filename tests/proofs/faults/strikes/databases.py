"""PostgreSQL ends sessions, restarts, becomes slow, or cannot be reached."""

from tests.proofs.faults.processes import Service
from tests.proofs.faults.proxy import Proxy
from tests.proofs.faults.world import FaultError, World

_AWAY = "is away"
_CRASHES = 8


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


def end_long_transactions(world: World) -> None:
    """Every transaction of a relay that lasts for more than a moment is ended, on a slow network.

    As by a pooler that bounds transactions, or a script: less of a page has to pass at a time.
    """
    world.relay_broker.delay(0.03)
    ended, goal = 0, world.effects() + 400

    def done() -> bool:
        nonlocal ended
        [(count,)] = world.query(
            "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name LIKE 'relay-%%' "
            "AND xact_start < clock_timestamp() - interval '150 milliseconds'"
        )
        ended += count
        return ended >= 20 and world.effects() >= goal

    world.await_(done, "events are handled between the ends of transactions", seconds=60)
    world.relay_broker.delay(0)


def set_impatient_defaults(world: World) -> None:
    """The role gets timeouts and an isolation level that are meant for others; servers are slow."""
    settings = {
        "idle_in_transaction_session_timeout": "'40ms'",
        "transaction_timeout": "'60ms'",
        "default_transaction_isolation": "'repeatable read'",
    }
    _with_new_sessions(world, [f"SET {name} = {value}" for name, value in settings.items()])
    try:
        world.relay_broker.delay(0.03)
        world.consumer_database.delay(0.01)
        world.await_more(100)
        world.consumer_database.delay(0)
        world.relay_broker.delay(0)
    finally:
        _with_new_sessions(world, [f"RESET {name}" for name in settings])


def crash_undoing_commits(world: World) -> None:
    """No commit waits for the disk, and crashes of the server undo some that all have seen."""
    world.doubt_commits()
    world.cluster.set("wal_writer_delay", "5s")
    world.query(f"ALTER DATABASE {world.database} SET synchronous_commit = off")
    terminate_all(world)
    undone = 0
    try:
        for _ in range(_CRASHES):
            world.await_more(10)
            newest = world.committed()
            world.cluster.restart("immediate")
            undone += not world.query("SELECT FROM faults_change WHERE id = %s", newest)
    finally:
        world.query(f"ALTER DATABASE {world.database} RESET synchronous_commit")
        world.cluster.set("wal_writer_delay", None)
        terminate_all(world)
    if not undone:
        raise FaultError("no crash has undone a commit")


def end_idle_sessions(world: World) -> None:
    """The server ends sessions that are idle for a moment, of relays, consumers and writers."""
    ended = 0
    _with_new_sessions(world, ["SET idle_session_timeout = '300ms'"])
    try:
        for _ in range(3):
            world.pause()
            before = set(world.backends())
            world.hold(1.0)
            ended += len(before - set(world.backends()))
            world.go()
            world.await_more(20)
    finally:
        _with_new_sessions(world, ["RESET idle_session_timeout"])
    if not ended:
        raise FaultError("no idle session was ended")


def empty_log(world: World) -> None:
    """Somebody empties the log when all is published, and its positions begin anew."""
    world.pause()
    world.await_(lambda: world.pending() == 0, "all is handled")
    before = world.number("SELECT max(position) FROM django_outbox_message")
    # The group has had what is unknown here from now on, which statements are to say.
    gone = world.query("SELECT message_id::text FROM django_outbox_message")
    world.planted |= {("unknown", message_id) for (message_id,) in gone}
    world.query("TRUNCATE django_outbox_message RESTART IDENTITY")
    world.go()
    world.await_more(50)
    if world.number("SELECT min(position) FROM django_outbox_message") >= before:
        raise FaultError("the positions have not begun anew")


_ON_THE_WAY = (
    "SELECT (SELECT count(*) FROM django_outbox_scheduled) + "
    "(SELECT count(*) FROM django_inbox_receipt WHERE next_attempt_at IS NOT NULL)"
)


def restore_over(world: World) -> None:
    """A dump is restored over the database, with a backlog, while relays and consumers run."""
    world.relay_broker.stall()
    mark = world.committed()
    world.await_(lambda: world.committed() > mark + 100, "there is a backlog")
    world.pause()
    # What enters the log while its table is made anew has no place there: the restore would fail.
    world.await_(lambda: not world.number(_ON_THE_WAY), "nothing is scheduled or tried again")
    _put_off_rounds(world, "1 hour")
    handled = -1
    while handled != (handled := world.effects()):  # as long as some are still on their way
        world.hold(1.5)
    if not world.pending():
        raise FaultError("there is no backlog")
    world.cluster.dump_and_restore(world.database)
    _put_off_rounds(world, "0")
    world.relay_broker.flow()
    world.go()
    world.await_more(50)


def _put_off_rounds(world: World, time: str) -> None:
    """Let the next statement wait so long."""
    world.query(
        "UPDATE django_outbox_reconciliation SET next_at = clock_timestamp() + %s::interval", time
    )


def _with_new_sessions(world: World, changes: list[str]) -> None:
    """Change the database's settings, and let relays and consumers begin sessions with them."""
    for change in changes:
        world.query(f"ALTER DATABASE {world.database} {change}")
    sides = ("relay-%", "consumer-%", "callbacks-%")
    old = {pid for side in sides for pid in world.backends(side)}
    for pid in old:
        # Without waiting, which would take too long for our own session as well.
        world.query("SELECT pg_terminate_backend(%s)", pid)

    def renewed() -> bool:
        now = {each.name: set(world.backends(each.name)) for each in world.services}
        return all(pids and not pids & old for pids in now.values())

    world.await_(renewed, "all have new sessions")


def _side(world: World, side: str) -> tuple[list[Service], Proxy]:
    if side == "relays":
        return world.relays, world.relay_database
    return world.consumers, world.consumer_database


def _done(world: World, side: str) -> int:
    """Return how many transactions one side has committed."""
    if side == "relays":
        return world.number("SELECT count(*) FROM django_relay_checkpoint")
    return world.number("SELECT count(DISTINCT xmin::text) FROM faults_effect")

"""The faults, as data: what goes wrong, and within which time everything is done after it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from outbox.failpoints import FAILPOINTS
from tests.proofs.faults.proxy import Way
from tests.proofs.faults.strikes import (
    brokers,
    callbacks,
    databases,
    losses,
    people,
    processes,
    queues,
)
from tests.proofs.faults.world import World


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A fault and what is expected of the service.

    `strike` brings it about and mends it; `drained_within` are the seconds from then on until
    every effect is there, on a machine that is busy with other things. `slow` ones take more
    than a few seconds, and are left to `make faults`.
    """

    name: str
    title: str
    strike: Callable[[World], None]
    drained_within: float = 30.0
    slow: bool = False


Slow = partial(Fault, slow=True)
SIDES = ("relays", "consumers")

HALF_OPEN_SECONDS = 40.0
"""Two missed heartbeats of the consumers on both sides, and then the work itself."""

ELSEWHERE = {
    point for point in FAILPOINTS if point.startswith(("rebase.", "inbox.task_", "operation."))
}
"""Points that this service does not pass: tests/proofs/crash has those of a move to another
cluster, and of what people do; tests/inbox/celery/test_worker.py those of Celery's tasks."""

KILLED: Mapping[str, Callable[[World, str], None]] = {
    "relay.retried": queues.kill_while_unbound,
    "relay.resending": losses.kill_while_resending,
    "relay.resent": losses.kill_while_resending,
    "outbox.closed": processes.kill_alone_at,
    "outbox.stated": processes.kill_alone_at,
    "inbox.answered": processes.kill_alone_at,
    "outbox.compared": processes.kill_alone_at,
}
"""How a process is killed at points that it does not pass by itself, or seldom."""

SELDOM = {"relay.resent", "outbox.closed", "inbox.answered", "outbox.compared"}
"""Points that are left to `make faults`: the quick faults have another one just before."""

FAULTS = (
    Fault(
        name="none",
        title="nothing fails (control)",
        strike=lambda world: world.await_more(50),
        drained_within=10.0,
    ),
    *(
        Fault(
            name=f"kill-{point}",
            title=f"SIGKILL at {point}",
            strike=partial(KILLED.get(point, processes.kill_at), failpoint=point),
            slow=point in SELDOM,
        )
        for point in sorted(FAILPOINTS - ELSEWHERE)
    ),
    Fault(
        name="stop-relay",
        title="SIGSTOP of a relay in a page, others go on, SIGCONT",
        strike=partial(processes.stop_relay, terminate=False),
    ),
    Fault(
        name="stop-relay-terminate",
        title="the same; its session ends, another takes its lane, SIGCONT",
        strike=partial(processes.stop_relay, terminate=True),
    ),
    Slow(
        name="stop-consumer",
        title="SIGSTOP of a consumer in a batch, given up by both servers, SIGCONT",
        strike=processes.stop_consumer,
    ),
    Fault(
        name="clock-forwards",
        title="clocks of relays and consumers 6 h forwards, later back",
        strike=partial(processes.step_clocks, back_first=False),
    ),
    Fault(
        name="clock-back",
        title="clocks of relays and consumers 6 h back, later forwards",
        strike=partial(processes.step_clocks, back_first=True),
    ),
    Fault(
        name="terminate-each",
        title="pg_terminate_backend of every session in turn",
        strike=databases.terminate_each,
    ),
    Fault(
        name="terminate-all",
        title="pg_terminate_backend of all sessions at once",
        strike=databases.terminate_all,
    ),
    Fault(
        name="postgresql-fast",
        title="PostgreSQL restarted",
        strike=partial(databases.restart, mode="fast"),
    ),
    Fault(
        name="postgresql-immediate",
        title="PostgreSQL crashed (immediate), recovery",
        strike=partial(databases.restart, mode="immediate"),
    ),
    *(
        Fault(
            name=f"database-cut-{side}",
            title=f"TCP between {side} and PostgreSQL cut in both directions",
            strike=partial(databases.cut, side=side, seconds=1),
        )
        for side in SIDES
    ),
    *(
        Slow(
            name=f"database-{what}-{side}",
            title=f"TCP between {side} and PostgreSQL silent, then {then}",
            strike=partial(databases.stall, side=side, seconds=3, reset=reset),
        )
        for side in SIDES
        for what, then, reset in (("stalled", "alive again", False), ("half-open", "reset", True))
    ),
    Fault(
        name="database-slow",
        title="the consumers' database slow (20 ms a packet)",
        strike=partial(databases.slow, seconds=3),
    ),
    Slow(
        name="long-transactions",
        title="each transaction of a relay over 150 ms ended, on a slow network",
        strike=databases.end_long_transactions,
        drained_within=60.0,
    ),
    Fault(
        name="impatient-role",
        title="timeouts of 40 and 60 ms for transactions, and REPEATABLE READ, as defaults",
        strike=databases.set_impatient_defaults,
    ),
    Slow(
        name="idle-sessions",
        title="idle_session_timeout of 300 ms, and pauses",
        strike=databases.end_idle_sessions,
    ),
    Slow(
        name="commits-undone",
        title="synchronous_commit off, PostgreSQL crashed: what had committed is undone",
        strike=databases.crash_undoing_commits,
    ),
    Fault(
        name="log-emptied",
        title="TRUNCATE … RESTART IDENTITY of the log when all is published",
        strike=databases.empty_log,
    ),
    Slow(
        name="restored-over",
        title="a dump with a backlog restored over the database under running processes",
        strike=databases.restore_over,
        drained_within=90.0,
    ),
    Slow(
        name="rabbitmq-restart",
        title="RabbitMQ restarted",
        strike=partial(brokers.outage, seconds=0, kill=False),
    ),
    Slow(
        name="rabbitmq-stopped",
        title="RabbitMQ stopped for {outage:g} s",
        strike=lambda world: brokers.outage(world, world.outage, kill=False),
        drained_within=120.0,
    ),
    Slow(
        name="rabbitmq-killed",
        title="RabbitMQ killed",
        strike=partial(brokers.outage, seconds=1, kill=True),
    ),
    Slow(
        name="rabbitmq-frozen",
        title="RabbitMQ accepts and never confirms (SIGSTOP)",
        strike=brokers.freeze,
    ),
    Slow(
        name="rabbitmq-closes",
        title="all connections closed by the broker",
        strike=brokers.close_connections,
    ),
    Slow(
        name="rabbitmq-blocked",
        title="memory alarm: publishers blocked",
        strike=partial(brokers.block, seconds=2),
    ),
    Slow(
        name="queue-deleted",
        title="queue deleted, later declared again by the consumers",
        strike=queues.delete_queue,
    ),
    Slow(
        name="queue-full",
        title="queue full (reject-publish), later emptied",
        strike=queues.fill_queue,
        drained_within=60.0,
    ),
    Slow(
        name="queue-full-slow",
        title="queue full, its consumers slow: room for a few now and then, later for all",
        strike=queues.fill_queue_of_slow_readers,
        drained_within=60.0,
    ),
    *(
        Slow(
            name=f"queue-full-beside-{kind}",
            title=f"a {kind} queue of two topics full beside a healthy one, later emptied",
            strike=partial(queues.fill_queue_beside, kind=kind),
            drained_within=60.0,
        )
        for kind in ("quorum", "classic")
    ),
    Slow(
        name="large-messages",
        title="ten messages of 30 MiB among the others",
        strike=queues.fill_queue_with_large_messages,
    ),
    Slow(
        name="type-unbound",
        title="an event type that no queue is bound to, bound later",
        strike=queues.unbind_type,
    ),
    Slow(
        name="type-offends",
        title="a filter ends the connection over one event type, later no more",
        strike=queues.offend_with_type,
    ),
    Slow(
        name="type-forbidden",
        title="the relays' user may not publish one event type, later it may",
        strike=queues.forbid_type,
    ),
    Slow(
        name="parked-discarded",
        title="a person discards and requeues parked messages while relays publish",
        strike=people.discard_and_requeue,
    ),
    *(
        Fault(
            name=f"broker-cut-{side}",
            title=f"TCP between {side} and RabbitMQ cut in both directions",
            strike=partial(brokers.cut, side=side, seconds=1),
        )
        for side in SIDES
    ),
    Slow(
        name="broker-deaf",
        title="TCP from relays to RabbitMQ silent, answers pass",
        strike=lambda world: brokers.stall(world, "relays", Way.UP),
    ),
    Slow(
        name="broker-dumb",
        title="TCP from RabbitMQ to relays silent: confirms are lost",
        strike=lambda world: brokers.stall(world, "relays", Way.DOWN),
    ),
    *(
        Slow(
            name=f"broker-half-open-{side}",
            title=f"TCP between {side} and RabbitMQ half-open, for ever",
            strike=partial(brokers.abandon, side=side),
            drained_within=HALF_OPEN_SECONDS,
        )
        for side in SIDES
    ),
    *(
        Fault(
            name=f"callbacks-kill-{point}",
            title=f"SIGKILL at {point} of the relay that calls back",
            strike=partial(processes.kill_callbacks_at, failpoint=point),
            slow=point != "relay.published",
        )
        for point in ("relay.published", "relay.checkpointed", "relay.committed")
    ),
    Slow(
        name="callbacks-cut",
        title="TCP to the receiver of callbacks cut in both directions",
        strike=partial(callbacks.cut, seconds=1),
    ),
    Slow(
        name="callbacks-dumb",
        title="the receiver of callbacks takes them, its answers are lost",
        strike=callbacks.lose_answers,
    ),
    Slow(
        name="messages-lost",
        title="messages taken off the queue, others deleted from the log; found, and mended",
        strike=losses.lose_and_find,
    ),
    Slow(
        name="an-hour",
        title="nothing fails in 60 buckets, an hour of seconds: no false break (control)",
        strike=losses.pass_an_hour,
    ),
)

"""Queues are deleted, full, read slowly, or not bound."""

import re
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from amqp.basic_message import Message
from kombu import Connection

from project.demo.queues import look
from tests.proofs.faults.service.vocabulary import HOPPED, KEYS, RARE, RARE_KEYS
from tests.proofs.faults.strikes import processes
from tests.proofs.faults.world import FaultError, PromiseBroken, World

_FULL = 60
"""How many messages the consumers' queue may hold while it is too small."""
_FULL_BESIDE = 10
_BESIDE = (RARE, HOPPED)
"""The topics of the queue beside that of the consumers."""
_SLOW = 0.005
"""Seconds by which a packet of the consumers' database is delayed, so that the queue stays full."""
_LARGE = 10
_LARGE_BYTES = 30 * 1024 * 1024
_ACCEPTED = 30
_NEIGHBOURS_SECONDS = 15
"""Time in which every key that is not refused must have gone on."""
_BACKLOG_SECONDS = 120


def delete_queue(world: World) -> None:
    """The consumers' queue is deleted and stays away for a while; they declare it again.

    What a deleted queue holds is gone, and only a replay brings it back. So it is empty here:
    what is put to the test is the time in which there is no queue.
    """
    world.pause()
    world.await_(lambda: world.pending() == 0, "the queue is empty")
    world.recorder.collect()
    # A message that reaches the recorder would not be unroutable.
    world.recorder.detach()
    for service in world.consumers:
        service.send(signal.SIGSTOP)
    try:
        with Connection(world.node.url) as link:
            link.channel().queue_delete(world.group)
        mark = world.committed()
        world.go()
        world.await_(lambda: world.committed() > mark + 50, "events that no queue takes")
        if look(world.node.url, world.group) is not None:
            raise FaultError("the queue is still there")
    finally:
        for service in world.consumers:
            service.send(signal.SIGCONT)
    world.await_(lambda: world.consuming() == len(world.consumers), "the queue is declared again")
    world.recorder.attach()


def fill_queue(world: World) -> None:
    """The consumers stand still and their queue is full; it rejects until they empty it."""
    for service in world.consumers:
        service.send(signal.SIGSTOP)
    with _too_small(world):
        try:
            world.await_(lambda: _depth(world) >= _FULL, "the queue is full")
            # The limit is a soft one. What a full queue rejects comes again, and the recorder,
            # which takes everything, gets it twice.
            repeated = _repeated(world)
            world.await_(
                lambda: _repeated(world) > repeated, "messages are rejected and come again"
            )
            world.hold(2)
        finally:
            for service in world.consumers:
                service.send(signal.SIGCONT)


def fill_queue_of_slow_readers(world: World) -> None:
    """The consumers are slow and their queue is full; now and then it has room for a few."""
    with _too_small(world):
        world.consumer_database.delay(_SLOW)
        try:
            world.await_(lambda: _depth(world) >= _FULL, "the queue is full")
            mark = _newest_parked(world)
            accepted = partial(
                world.number,
                "SELECT count(*) FROM django_relay_parked "
                "WHERE id > %s AND key IS NOT NULL AND state = 'published' AND attempts > 0",
                mark,
            )
            world.await_(lambda: accepted() >= _ACCEPTED, "what was refused is accepted, in part")
            world.hold(2)
            if not _refused(world, mark):
                raise FaultError("the queue is not full any more")
        finally:
            world.consumer_database.flow()


def fill_queue_beside(world: World, kind: str) -> None:
    """A queue of somebody else, bound to two topics, is full. Other keys never notice."""
    queue = f"{world.exchange}-{kind}"
    world.own(queue)
    mark = _newest_parked(world)
    with Connection(world.node.url) as link, _limit(world, queue, _FULL_BESIDE):
        channel = link.channel()
        channel.queue_declare(
            queue, durable=True, auto_delete=False, arguments={"x-queue-type": kind}
        )
        for topic in _BESIDE:
            channel.queue_bind(queue, world.exchange, routing_key=topic)
        try:
            world.await_(
                lambda: set(_refused(world, mark)) == set(_BESIDE), f"{_BESIDE} are refused"
            )
            _check_neighbours(world, "a full queue of other topics")
            if held := _parked(world, mark, KEYS):
                raise PromiseBroken(f"{held} messages are parked that no queue refused")
        finally:
            channel.queue_purge(queue)


def fill_queue_with_large_messages(world: World) -> None:
    """A stranger sends large messages to the consumers; each is a dead letter, nobody waits."""
    body = bytes(_LARGE_BYTES)
    mark = _too_large(world)
    with Connection(world.node.url) as link:
        channel = link.channel()
        for number in range(mark, mark + _LARGE):  # the same again would be no other dead letter
            # Straight to the queue: the recorder has no use for them.
            message = Message(body, application_headers={"number": number}, delivery_mode=2)
            channel.basic_publish(message, routing_key=world.group)
            world.await_more(1)
        world.await_(lambda: _too_large(world) == mark + _LARGE, "each of them is a dead letter")


@contextmanager
def _too_small(world: World) -> Iterator[None]:
    """Let the consumers' queue reject what is too much; in the end wait until they emptied it."""
    with _limit(world, world.group, _FULL):
        try:
            yield
        finally:
            world.await_(lambda: _depth(world) < _FULL, "the consumers empty the queue")


@contextmanager
def _limit(world: World, queue: str, messages: int) -> Iterator[None]:
    """Let a queue reject what is beyond so many messages."""
    policy = f"{queue}-full"
    definition = f'{{"max-length": {messages}, "overflow": "reject-publish"}}'
    world.node.ctl("set_policy", policy, f"^{queue}$", definition, "--apply-to", "queues")
    try:
        yield
    finally:
        world.node.ctl("clear_policy", policy)


def unbind_type(world: World) -> None:
    """No queue is bound to a type of events; later one is. Keys without them never notice."""
    with unbound(world):
        _check_neighbours(world, "an unroutable event")


def kill_while_unbound(world: World, failpoint: str) -> None:
    """A relay is killed while it tries parked messages again, which are refused once more."""
    with unbound(world):
        processes.kill_at(world, failpoint)


def offend_with_type(world: World) -> None:
    """A filter before the broker ends the connection over one type of events, each time."""
    mark = _newest_parked(world)
    world.relay_broker.offend(bytes([len(RARE)]) + RARE.encode())  # the routing key
    try:
        world.await_(lambda: _refused(world, mark, "refused") == [RARE], "rare events are refused")
        _check_neighbours(world, "an event over which the connection ends")
        if held := _parked(world, mark, KEYS):
            raise PromiseBroken(f"{held} messages are parked that nobody refused")
        if not world.relay_broker.offences:
            raise FaultError("no connection was ended")
    finally:
        world.relay_broker.flow()


def forbid_type(world: World) -> None:
    """The relays' user may no longer publish one type of events; later it may again."""
    mark = _newest_parked(world)
    others = f"^(?!{re.escape(RARE)}$)"
    world.node.ctl("set_topic_permissions", "guest", world.exchange, others, ".*")
    # A channel goes on with what it was told before.
    world.node.ctl("close_all_connections", "permissions have changed")
    try:
        world.await_(lambda: _refused(world, mark, "refused") == [RARE], "rare events are refused")
        _check_neighbours(world, "an event that may not be published")
        if held := _parked(world, mark, KEYS):
            raise PromiseBroken(f"{held} messages are parked that nobody refused")
    finally:
        world.node.ctl("clear_topic_permissions", "guest", world.exchange)


@contextmanager
def unbound(world: World) -> Iterator[None]:
    """Leave a type of events without a binding, from when the first of them wait.

    Queue and recorder get their bindings back at the same moment, through an exchange between:
    else what is published in between would reach one of them only.
    """
    fork = f"{world.exchange}-fork"
    queues = (world.group, world.recorder.queue)
    with Connection(world.node.url) as link:
        channel = link.channel()
        channel.exchange_declare(fork, "fanout", durable=False, auto_delete=False)
        for queue in queues:
            channel.queue_bind(queue, fork)
            channel.queue_unbind(queue, world.exchange, routing_key=RARE)
        try:
            world.await_(lambda: _waiting_rare(world) >= len(RARE_KEYS), "rare events wait")
            yield
        finally:
            channel.exchange_bind(fork, world.exchange, routing_key=RARE)
            for queue in queues:
                channel.queue_bind(queue, world.exchange, routing_key=RARE)
            channel.exchange_delete(fork)


def _depth(world: World) -> int:
    queue = look(world.node.url, world.group)
    return queue.messages if queue else 0


def _too_large(world: World) -> int:
    return world.number("SELECT count(*) FROM django_inbox_deadletter WHERE reason = 'too_large'")


def _repeated(world: World) -> int:
    world.recorder.collect()
    return world.recorder.repeated


def _waiting_rare(world: World) -> int:
    return world.number(
        "SELECT count(*) FROM faults_change c WHERE kind = %s AND NOT EXISTS "
        "(SELECT FROM faults_effect e WHERE e.tag = c.tag)",
        RARE,
    )


def _newest_parked(world: World) -> int:
    return world.number("SELECT max(id) FROM django_relay_parked")


def _refused(world: World, mark: int, reason: str = "nacked") -> list[str]:
    """Return the topics of which messages are parked since a mark, because a queue is full say."""
    rows = world.query(
        "SELECT DISTINCT topic FROM django_relay_parked "
        "WHERE id > %s AND topic LIKE 'faults.%%' AND state = 'parked' AND reason = %s",
        mark,
        reason,
    )
    return [topic for (topic,) in rows]


def _parked(world: World, mark: int, keys: Sequence[str]) -> int:
    return world.number(
        "SELECT count(*) FROM django_relay_parked WHERE id > %s AND key = ANY(%s)", mark, list(keys)
    )


def _check_neighbours(world: World, what: str) -> None:
    """Raise PromiseBroken if keys wait that have nothing to do with what is refused.

    A backlog is no hold: the oldest event that a key waits for changes as it is worked off.
    """
    mark = world.committed()
    world.await_(lambda: world.committed() > mark + 50, "more events come")
    mark = world.committed()
    seen: dict[str, tuple[int, float]] = {}

    def all_go_on() -> bool:
        now = time.monotonic()
        oldest = _oldest_waiting(world, KEYS, mark)
        for key, number in oldest.items():
            if key not in seen or seen[key][0] != number:
                seen[key] = (number, now)
        held = [key for key in oldest if now - seen[key][1] > _NEIGHBOURS_SECONDS]
        if held:
            raise PromiseBroken(f"{what} holds up {len(held)} other keys")
        return not oldest

    world.await_(all_go_on, "what other keys waited for is handled", _BACKLOG_SECONDS)


def _oldest_waiting(world: World, keys: Sequence[str], mark: int) -> dict[str, int]:
    """Return by key the oldest change up to a mark that is still without its effect."""
    rows = world.query(
        "SELECT key, min(id) FROM faults_change c WHERE key = ANY(%s) AND id <= %s "
        "AND NOT EXISTS (SELECT FROM faults_effect e WHERE e.tag = c.tag) GROUP BY key",
        list(keys),
        mark,
    )
    return dict(rows)

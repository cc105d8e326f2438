"""RabbitMQ restarts, dies, freezes, blocks, refuses, or cannot be reached."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from kombu import Connection

from project.demo.queues import look
from tests.faults.processes import Service
from tests.faults.proxy import Proxy, Way
from tests.faults.service.vocabulary import KEYS, RARE, RARE_KEYS
from tests.faults.strikes import processes
from tests.faults.world import FaultError, PromiseBroken, World

_AWAY = "is away"
_FULL = 60
"""How many messages the queue may hold while it is too small."""
_NEIGHBOURS_SECONDS = 15


def outage(world: World, seconds: float, *, kill: bool) -> None:
    """The node ends, in order or like in a power failure, and comes back after a while."""
    services = world.services
    marks = [service.mark() for service in services]
    (world.node.kill if kill else world.node.stop)()
    world.hold(seconds)
    world.await_said(services, _AWAY, marks)
    world.node.start()


def close_connections(world: World) -> None:
    """The broker closes every connection, with a reason."""
    services = world.services
    marks = [service.mark() for service in services]
    world.node.ctl("close_all_connections", "the fault suite says so")
    world.await_said(services, _AWAY, marks)


def freeze(world: World) -> None:
    """The node accepts everything, and neither confirms nor delivers, until the relays give up."""
    marks = [service.mark() for service in world.relays]
    world.node.pause()
    try:
        world.await_said(world.relays, _AWAY, marks)
    finally:
        world.node.resume()


def block(world: World, seconds: float) -> None:
    """The node is short of memory and blocks its publishers (connection.blocked)."""
    marks = [service.mark() for service in world.relays]
    world.node.ctl("set_vm_memory_high_watermark", "0.0000001")
    try:
        world.await_said(world.relays, "blocked", marks)
        world.hold(seconds)
    finally:
        world.node.ctl("set_vm_memory_high_watermark", "0.4")


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
    policy = f"{world.group}-full"
    definition = f'{{"max-length": {_FULL}, "overflow": "reject-publish"}}'
    for service in world.consumers:
        service.send(signal.SIGSTOP)
    world.node.ctl("set_policy", policy, f"^{world.group}$", definition, "--apply-to", "queues")
    try:
        world.await_(lambda: _depth(world) >= _FULL, "the queue is full")
        # The limit is a soft one. What a full queue rejects comes again, and the recorder, which
        # takes everything, gets it twice.
        repeated = _repeated(world)
        world.await_(lambda: _repeated(world) > repeated, "messages are rejected and come again")
        world.hold(2)
    finally:
        for service in world.consumers:
            service.send(signal.SIGCONT)
        world.await_(lambda: _depth(world) < _FULL, "the consumers empty the queue")
        world.node.ctl("clear_policy", policy)


def unbind_type(world: World) -> None:
    """No queue is bound to a type of events; later one is. Keys without them never notice."""
    with _unbound(world):
        _check_neighbours(world)


def kill_while_unbound(world: World) -> None:
    """A relay is killed while it tries parked messages again, which are refused once more."""
    with _unbound(world):
        processes.kill_at(world, failpoint="relay.retried")


@contextmanager
def _unbound(world: World) -> Iterator[None]:
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


def cut(world: World, side: str, seconds: float) -> None:
    """Connections to the broker are reset in both directions, and new ones as well."""
    services, proxy = _side(world, side)
    marks = [service.mark() for service in services]
    proxy.cut()
    world.await_said(services, _AWAY, marks)
    world.hold(seconds)
    proxy.flow()


def stall(world: World, side: str, *ways: Way) -> None:
    """Bytes pass in one direction at most, without an error, until somebody gives up."""
    services, proxy = _side(world, side)
    marks = [service.mark() for service in services]
    proxy.stall(*ways)
    world.await_said(services, _AWAY, marks)
    proxy.flow()


def abandon(world: World, side: str) -> None:
    """Half-open: the present connections are silent for ever, and new ones work."""
    services, proxy = _side(world, side)
    marks = [service.mark() for service in services]
    proxy.abandon()
    world.await_said(services, _AWAY, marks)


def _side(world: World, side: str) -> tuple[list[Service], Proxy]:
    if side == "relays":
        return world.relays, world.relay_broker
    return world.consumers, world.consumer_broker


def _depth(world: World) -> int:
    queue = look(world.node.url, world.group)
    return queue.messages if queue else 0


def _repeated(world: World) -> int:
    world.recorder.collect()
    return world.recorder.repeated


def _waiting_rare(world: World) -> int:
    return world.number(
        "SELECT count(*) FROM faults_change c WHERE kind = %s AND NOT EXISTS "
        "(SELECT FROM faults_effect e WHERE e.tag = c.tag)",
        RARE,
    )


def _check_neighbours(world: World) -> None:
    """Raise PromiseBroken if keys without an unroutable event wait all the same."""
    mark = world.committed()
    world.await_(lambda: world.committed() > mark + 50, "more events come")
    mark = world.committed()
    waiting = (
        "SELECT count(*) FROM faults_change c WHERE key = ANY(%s) AND id <= %s "
        "AND NOT EXISTS (SELECT FROM faults_effect e WHERE e.tag = c.tag)"
    )
    try:
        world.await_(
            lambda: world.number(waiting, list(KEYS), mark) == 0,
            "keys without an unroutable event go on",
            _NEIGHBOURS_SECONDS,
        )
    except FaultError:
        held = world.number(waiting, list(KEYS), mark)
        raise PromiseBroken(f"an unroutable event holds up {held} events of other keys") from None

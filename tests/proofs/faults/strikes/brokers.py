"""RabbitMQ restarts, dies, freezes, blocks, or cannot be reached."""

from tests.proofs.faults.processes import Service
from tests.proofs.faults.proxy import Proxy, Way
from tests.proofs.faults.world import World

_AWAY = "is away"


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

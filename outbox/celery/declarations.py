"""kombu's queues and exchanges as data of the log, and back."""

from typing import Any

from kombu import Exchange, Queue, binding

from outbox.exceptions import InvalidEvent
from outbox.message.celery_task import (
    Binding,
    Declaration,
    ExchangeDeclaration,
    QueueDeclaration,
    carried,
)

_DELIVERY_MODES = {"transient": 1, "persistent": 2}


def declaration(entity: Any) -> Declaration:
    """Return what is to be declared; raise InvalidEvent if it is neither queue nor exchange."""
    if isinstance(entity, Exchange):
        return _exchange(entity)
    if not isinstance(entity, Queue):
        raise InvalidEvent(
            f"A task declares a {type(entity).__qualname__}; the outbox knows queues and exchanges."
        )
    queue: Any = entity
    return QueueDeclaration(
        name=queue.name,
        exchange=_exchange(queue.exchange) if queue.exchange else None,
        routing_key=queue.routing_key or "",
        durable=bool(queue.durable),
        exclusive=bool(queue.exclusive),
        auto_delete=bool(queue.auto_delete),
        no_declare=bool(queue.no_declare),
        queue_arguments=_arguments(queue.queue_arguments),
        binding_arguments=_arguments(queue.binding_arguments),
        bindings=[
            Binding(
                exchange=_exchange(each.exchange),
                routing_key=each.routing_key or "",
                arguments=_arguments(each.arguments),
            )
            for each in queue.bindings or ()
        ],
        expires=queue.expires,
        message_ttl=queue.message_ttl,
        max_length=queue.max_length,
        max_length_bytes=queue.max_length_bytes,
        max_priority=queue.max_priority,
    )


def entity(declared: Declaration) -> Queue | Exchange:
    """Return kombu's queue or exchange for what is to be declared."""
    if isinstance(declared, ExchangeDeclaration):
        return _kombu_exchange(declared)
    options: dict[str, Any] = {
        name: getattr(declared, name)
        for name in QueueDeclaration.__struct_fields__
        if name not in {"name", "exchange", "bindings"}
    }
    exchange = _kombu_exchange(declared.exchange) if declared.exchange else None
    bindings = [
        binding(_kombu_exchange(each.exchange), each.routing_key, each.arguments)
        for each in declared.bindings
    ]
    return Queue(declared.name, exchange, bindings=bindings or None, **options)


def _exchange(given: Any) -> ExchangeDeclaration:
    mode = given.delivery_mode
    return ExchangeDeclaration(
        name=given.name,
        type=given.type,
        durable=bool(given.durable),
        auto_delete=bool(given.auto_delete),
        passive=bool(given.passive),
        no_declare=bool(given.no_declare),
        delivery_mode=_DELIVERY_MODES.get(mode, mode),
        arguments=_arguments(given.arguments),
    )


def _kombu_exchange(declared: ExchangeDeclaration) -> Exchange:
    options: dict[str, Any] = {
        name: getattr(declared, name) for name in ExchangeDeclaration.__struct_fields__
    }
    return Exchange(**options)


def _arguments(given: Any) -> dict[str, Any] | None:
    return carried(given, "arguments of the queue or exchange") or None

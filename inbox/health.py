"""What the doctor asks about the consumer: what is dead or overdue, and its queues."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from amqp.exceptions import AMQPError, NotFound
from django.db import router
from django.db.models.functions import Now
from kombu import Connection

from inbox.conf import broker_url, inbox_settings
from inbox.models import DeadLetter, Receipt
from inbox.registry import handlers
from inbox.states import State
from inbox.topology import queue_name
from outbox import amqp
from outbox.exceptions import ConfigurationError
from outbox.health import Finding, Level

COUNTED = 1000
"""Rows that are counted at most; more are more than that."""
OVERDUE = timedelta(minutes=1)
"""How long what is due may lie there until somebody should look."""


def examine(using: str) -> Iterator[Finding]:
    """Examine the tables where the routers say they are, and the queue of every group."""
    yield _dead_letters(router.db_for_read(DeadLetter))
    yield _dead_receipts(router.db_for_read(Receipt))
    yield _overdue(router.db_for_read(Receipt))
    yield from _queues()


def _dead_letters(using: str) -> Finding:
    letters = DeadLetter.objects.using(using).filter(state=State.DEAD)
    newest = letters.order_by("-pk").values_list("reason", "type")
    found = list(newest[: COUNTED + 1])
    if not found:
        return Finding(
            level=Level.OK, id="inbox.dead", title="Dead letters", text="There are none."
        )
    count = _count(len(found))
    reason, event_type = found[0]
    return Finding(
        level=Level.WARNING,
        id="inbox.dead",
        title="Dead letters wait for a person",
        text=f"{count}, the newest: {DeadLetter.Reason(reason).label}, {event_type or 'no type'}.",
        hint="Look at them in the admin; see 'manage.py inbox_retry --dead-letters'.",
        figures={"count": len(found)},
    )


def _dead_receipts(using: str) -> Finding:
    dead = Receipt.objects.using(using).filter(state=State.DEAD)
    found = list(dead.order_by("-pk").values_list("handler", "type")[: COUNTED + 1])
    if not found:
        return Finding(
            level=Level.OK, id="inbox.receipts", title="Dead receipts", text="There are none."
        )
    handler, event_type = found[0]
    return Finding(
        level=Level.WARNING,
        id="inbox.receipts",
        title="Messages are dead: their handlers could not handle them",
        text=f"{_count(len(found))}, the newest: {handler}, {event_type}.",
        hint="Mend the handler, then retry or discard them: in the admin, or with "
        "'manage.py inbox_retry'.",
        figures={"count": len(found)},
    )


def _overdue(using: str) -> Finding:
    due = Receipt.objects.using(using).filter(next_attempt_at__lt=Now() - OVERDUE)
    found = list(due.values_list("handler", flat=True)[: COUNTED + 1])
    if not found:
        return Finding(level=Level.OK, id="inbox.overdue", title="Retries", text="None is overdue.")
    names = sorted(set(found))
    gone = [name for name in names if handlers.get(name) is None]
    who = f" There is no handler {', '.join(gone)} any more." if gone else ""
    return Finding(
        level=Level.WARNING,
        id="inbox.overdue",
        title="Nobody handles what is due",
        text=f"{_count(len(found))} messages are due for over a minute: {', '.join(names)}.{who}",
        hint="Start the consumers of these handlers, or the relay with the local broker; discard "
        "what is of handlers that are gone, or bring these back.",
        figures={"count": len(found)},
    )


def _count(found: int) -> str:
    return f"More than {COUNTED:,}" if found > COUNTED else f"{found:,}"


def _queues() -> Iterator[Finding]:
    groups, url = sorted(handlers.groups()), broker_url()
    if not groups or not url:
        what = "no handlers" if not groups else "no broker to consume from"
        yield Finding(
            level=Level.OK, id="inbox.queue", title="Queues", text=f"There are none: {what}."
        )
        return
    conf = inbox_settings()
    try:
        amqp.check_url(url)
        connection = amqp.connect(
            url,
            name="django-outbox-inbox doctor",
            connect_timeout=conf.CONNECT_TIMEOUT,
            socket_timeout=conf.CONNECT_TIMEOUT,
            heartbeat=0,
            ssl=conf.SSL,
        )
    except (AMQPError, OSError, ConfigurationError) as exc:
        refused = amqp.refusal(exc)
        yield Finding(
            level=Level.ERROR,
            id="inbox.broker",
            title=f"The broker {'does not let us in' if refused else 'cannot be reached'}",
            text=f"{amqp.address(url)}: {refused or f'{type(exc).__name__}: {exc}'}",
            hint="Consumers that run go on by themselves "
            + ("when it does; others end at their start." if refused else "when it is back."),
        )
        return
    try:
        for group in groups:
            yield _queue(connection, group)
    finally:
        amqp.drop(connection)


def _queue(connection: Connection, group: str) -> Finding:
    name = queue_name(group)
    channel: Any = connection.channel()  # a failed declaration closes it
    try:
        _, depth, consumers = channel.queue_declare(name, passive=True)
    except NotFound:
        return Finding(
            level=Level.WARNING,
            id="inbox.queue",
            title=f"Queue {name!r} is missing",
            text=f"The handlers of group {group!r} get nothing, and what is published for them "
            "reaches no queue.",
            hint=f"Start its consumer, which declares it: manage.py consume --group {group}",
        )
    except (AMQPError, OSError) as exc:
        return Finding(
            level=Level.ERROR,
            id="inbox.queue",
            title=f"Queue {name!r} cannot be examined",
            text=f"{exc}",
            hint="Check the permissions of the consumer's user.",
        )
    figures = {"ready": depth, "consumers": consumers}
    if not consumers:
        return Finding(
            level=Level.WARNING,
            id="inbox.queue",
            title=f"Nobody consumes queue {name!r}",
            text=f"{depth:,} messages wait in it.",
            hint=f"Start manage.py consume --group {group}",
            figures=figures,
        )
    return Finding(
        level=Level.OK,
        id="inbox.queue",
        title=f"Queue {name!r}",
        text=f"{depth:,} messages wait in it, {consumers} consumers.",
        figures=figures,
    )

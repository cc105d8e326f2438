"""What the doctor asks about the consumer: dead letters, and the queues of its groups."""

from collections.abc import Iterator
from typing import Any

from amqp.exceptions import AMQPError, NotFound
from django.db import router
from kombu import Connection

from inbox.conf import broker_url, inbox_settings
from inbox.models import DeadLetter
from inbox.registry import handlers
from inbox.topology import queue_name
from outbox import amqp
from outbox.health import Finding, Level

COUNTED = 1000
"""Dead letters that are counted at most; more are more than that."""


def examine(using: str) -> Iterator[Finding]:
    """Examine dead letters where the routers say they are, and the queue of every group."""
    yield _dead_letters(router.db_for_read(DeadLetter))
    yield from _queues()


def _dead_letters(using: str) -> Finding:
    newest = DeadLetter.objects.using(using).order_by("-pk").values_list("reason", "type")
    found = list(newest[: COUNTED + 1])
    if not found:
        return Finding(
            level=Level.OK, id="inbox.dead", title="Dead letters", text="There are none."
        )
    count = f"More than {COUNTED:,}" if len(found) > COUNTED else f"{len(found):,}"
    reason, event_type = found[0]
    return Finding(
        level=Level.WARNING,
        id="inbox.dead",
        title="Dead letters wait for a person",
        text=f"{count}, the newest: {DeadLetter.Reason(reason).label}, {event_type or 'no type'}.",
        hint="Look at them in the admin.",
        figures={"count": len(found)},
    )


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
        connection = amqp.connect(
            url,
            name="django-outbox-inbox doctor",
            connect_timeout=conf.CONNECT_TIMEOUT,
            socket_timeout=conf.CONNECT_TIMEOUT,
            heartbeat=0,
            ssl=conf.SSL,
        )
    except (AMQPError, OSError) as exc:
        yield Finding(
            level=Level.ERROR,
            id="inbox.broker",
            title="The broker cannot be reached",
            text=f"{amqp.address(url)}: {type(exc).__name__}: {exc}",
            hint="Consumers go on by themselves when it is back.",
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

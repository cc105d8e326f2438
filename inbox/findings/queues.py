"""The queues of groups, as the broker has them."""

from collections.abc import Iterator

from amqp.exceptions import AMQPError

from inbox.conf import broker_url, inbox_settings
from inbox.handlers.registry import handlers
from inbox.sources.amqp.depths import Depth, read_depths
from outbox.amqp import connection as amqp
from outbox.error_text import describe
from outbox.exceptions import ConfigurationError
from outbox.extensions.diagnosis import Finding, Level
from outbox.nouns import counted


def queues() -> Iterator[Finding]:
    groups, url = sorted(handlers.groups()), broker_url()
    if not groups or not url:
        what = "no handlers" if not groups else "no broker to consume from"
        yield Finding(
            level=Level.OK, id="inbox.queue", title="Queues", text=f"There are none: {what}."
        )
        return
    conf = inbox_settings()
    try:
        depths = list(read_depths(url, groups))
    except (AMQPError, OSError, ConfigurationError) as exc:
        refused = amqp.refusal(exc)
        yield Finding(
            level=Level.ERROR,
            id="inbox.broker",
            title=f"The broker {'does not let us in' if refused else 'cannot be reached'}",
            text=f"{amqp.address(url, conf.SSL)}: {refused or describe(exc)}",
            hint="Consumers that run go on by themselves "
            + ("when it does; others end at their start." if refused else "when it is back."),
            hides=("inbox.queue", "inbox.bindings", "inbox.abandoned", "inbox.unread"),
        )
        return
    for depth in depths:
        yield _queue(depth)


def _queue(depth: Depth) -> Finding:
    name, group = depth.queue, depth.group
    if depth.missing:
        return Finding(
            level=Level.WARNING,
            id="inbox.queue",
            title=f"Queue {name!r} is missing",
            text=f"The handlers of group {group!r} get nothing, and what is published for them "
            "reaches no queue.",
            hint=f"Start its consumer, which declares it: manage.py consume --group {group}",
        )
    if depth.error:
        return Finding(
            level=Level.ERROR,
            id="inbox.queue",
            title=f"Queue {name!r} cannot be examined",
            text=depth.error,
            hint="Check the permissions of the consumer's user.",
        )
    figures = {"ready": depth.ready, "consumers": depth.consumers}
    waiting = counted(depth.ready, "message waits", "messages wait")
    if not depth.consumers:
        return Finding(
            level=Level.WARNING,
            id="inbox.queue",
            title=f"Nobody consumes queue {name!r}",
            text=f"{waiting} in it.",
            hint=f"Start manage.py consume --group {group}",
            figures=figures,
        )
    return Finding(
        level=Level.OK,
        id="inbox.queue",
        title=f"Queue {name!r}",
        text=f"{waiting} in it, {counted(depth.consumers, 'consumer')}.",
        figures=figures,
    )

"""Declare what is missing on an AMQP broker, and use what others declared as it is.

A broker refuses a declaration that differs in any argument from what is there, and any declaration
without the right to configure, also of what is there already. Neither is a reason not to use it:
operators set arguments, and give no more rights than are needed. Looking first (`passive`) would
not do: RabbitMQ then compares neither type nor durability.
"""

import re
from collections.abc import Callable
from typing import Any

from amqp.exceptions import AccessRefused, NotFound, PreconditionFailed
from kombu import Connection, Exchange

_KINDS = "type|durable|auto_delete|internal|exclusive"
# RabbitMQ's words (rabbit_misc.erl): it names the first argument that differs.
_ADDED = re.compile(rf"inequivalent arg '(?!(?:{_KINDS})')[^']*' for .*: received none but current")


class UnusableExchange(OSError):
    """The exchange is there, and is none of the kind that is needed."""


def declare_missing(declare: Callable[[], Any], look: Callable[[], Any]) -> None:
    """Declare something, or use it as it is.

    As it is: with arguments that we did not ask for, or without our right to declare it; then
    `look` must find it. Raises what the broker says otherwise. The channel is usable after it.
    """
    try:
        declare()
    except PreconditionFailed as exc:
        if not _ADDED.search(exc.reply_text or ""):
            raise
    except AccessRefused as refused:
        try:
            look()
        except NotFound:
            raise refused from None


def declare_events(connection: Connection, name: str) -> None:
    """Declare the durable topic exchange of the events, if it is missing.

    Raises UnusableExchange if there is another one of that name, as far as that can be told: only
    to whom may declare it. Raises AccessRefused if it is missing and may not be declared.
    """
    channel: Any = connection.channel()  # py-amqp's, beneath kombu's types
    exchange = Exchange(name, type="topic", durable=True)(channel)
    try:
        declare_missing(exchange.declare, lambda: exchange.declare(passive=True))
    except PreconditionFailed as exc:
        raise UnusableExchange(
            f"The exchange {name!r} exists and is not a durable topic exchange: {exc}. Name "
            "another one in the relay's OPTIONS and in INBOX['EXCHANGE'], or delete it"
        ) from exc
    channel.close()

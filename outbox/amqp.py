"""Connections to AMQP 0-9-1 brokers, for whoever publishes or consumes."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from amqp.exceptions import AccessRefused, NotAllowed
from kombu import Connection

from outbox.amqp_transport import Transport
from outbox.exceptions import ConfigurationError

SCHEMES = ("amqp", "amqps", "pyamqp")


def check_url(url: str) -> None:
    """Raise ConfigurationError unless `url` is that of an AMQP broker, or several joined by ';'."""
    for each in url.split(";"):
        try:
            parts = urlsplit(each)
            usable = parts.scheme in SCHEMES and bool(parts.hostname) and parts.port != 0
        except ValueError:
            usable = False
        if not usable:
            raise ConfigurationError(
                "The broker's URL must look like 'amqp://user:password@host:5672/vhost', with the "
                "scheme amqp or amqps (TLS); the given one does not."
            )


def connect(
    url: str,
    *,
    name: str,
    connect_timeout: float,
    socket_timeout: float,
    heartbeat: float,
    ssl: Mapping[str, Any] | None = None,
    **transport_options: Any,
) -> Connection:
    """Return an open connection that the broker lists under `name`.

    Each of several URLs is tried once. Times are in seconds. Raises what py-amqp or the socket
    raises if none lets us in.
    """
    connection = Connection(
        url,
        transport=Transport,
        heartbeat=heartbeat,
        connect_timeout=connect_timeout,
        ssl=dict(ssl) if ssl is not None else url.startswith("amqps"),
        transport_options={
            "read_timeout": socket_timeout,
            "write_timeout": socket_timeout,
            "client_properties": {"connection_name": name},
            **transport_options,
        },
    )
    try:
        # kombu's own connect() would sleep for two seconds before it tries the same host again.
        connection.ensure_connection(
            max_retries=len(connection.alt or [url]) - 1,
            interval_start=0,
            reraise_as_library_errors=False,
        )
    except BaseException:
        drop(connection)
        raise
    return connection


def refusal(exc: BaseException) -> str:
    """Return what a broker refuses that does not let us in, and what to do; "" if it is not that.

    No part of it is a secret: what brokers say names users and virtual hosts, never passwords.
    """
    said = getattr(exc, "reply_text", "") or str(exc)
    if isinstance(exc, AccessRefused):
        if "Login was refused" in said:
            return f"user name or password is refused ({said}). Correct them in its URL"
        return f"permission is refused ({said}). Grant it to the user, or correct the URL"
    # The same code stands for a limit of connections, and for a virtual host that is down.
    if isinstance(exc, NotAllowed) and "vhost" in said and not re.search("limit|down", said):
        return (
            f"the virtual host is refused ({said}). Create it, give the user permissions there, or "
            "correct the path of the URL"
        )
    return ""


def drop(connection: Connection) -> None:
    """Close a connection that may be broken, without waiting for an answer from the other side."""
    connection.collect(socket_timeout=1)


def address(url: str) -> str:
    """Return a broker's URL without its credentials, for people."""
    return ";".join(map(_address, url.split(";")))


def _address(url: str) -> str:
    parts = urlsplit(url)
    default = 5671 if parts.scheme == "amqps" else 5672
    return f"{parts.scheme}://{parts.hostname}:{parts.port or default}{parts.path}"

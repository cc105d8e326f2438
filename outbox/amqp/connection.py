"""Connections to AMQP 0-9-1 brokers, for whoever publishes or consumes."""

import logging
import re
from collections.abc import Mapping
from ssl import SSLCertVerificationError
from typing import Any

from amqp.exceptions import AccessRefused, AMQPError, NotAllowed
from kombu import Connection

from outbox.amqp import permissions, urls
from outbox.amqp.tls import UnusableFile
from outbox.amqp.transport import Transport
from outbox.amqp.urls import ServerURL
from outbox.error_text import text_of
from outbox.exceptions import ConfigurationError
from outbox.guards import guard

logger = logging.getLogger("outbox")

SCHEMES = ("amqp", "amqps", "pyamqp")
LOGIN_METHODS = ("PLAIN", "AMQPLAIN", "EXTERNAL", "GSSAPI")
EXAMPLE = (
    "The broker's URL must look like 'amqp://user:password@host:5672/vhost', with the scheme amqp "
    "or amqps (TLS)"
)


def check_url(url: str) -> None:
    """Raise ConfigurationError unless `url` is that of an AMQP broker, or several joined by ';'."""
    read(url)


def read(url: str) -> list[ServerURL]:
    """Return the URLs of one or more AMQP brokers; raise ConfigurationError if they are none."""
    try:
        found = urls.read(url, options=("login_method",))
    except ConfigurationError as exc:
        raise ConfigurationError(f"{exc} {EXAMPLE}.") from None
    for each in found:
        if each.scheme not in SCHEMES:
            raise ConfigurationError(f"The URL is that of no AMQP broker. {EXAMPLE}.")
        if not each.host:
            raise ConfigurationError(f"The URL names no host. {EXAMPLE}.")
        if each.query.get("login_method", "PLAIN") not in LOGIN_METHODS:
            raise ConfigurationError(
                f"The URL's login_method must be one of {', '.join(LOGIN_METHODS)}."
            )
    return found


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

    Each of several URLs is tried once. It is encrypted with the scheme amqps, or if there are
    options in `ssl`; see outbox.amqp.tls. Times are in seconds. Raises what py-amqp or the socket
    raises if none lets us in.
    """
    found = read(url)
    guard().connects(address(url, ssl))
    for server in found:
        # One of its own for each: kombu's own lists keep port, virtual host, transport and the
        # name in the certificate of those before.
        connection = Connection(
            hostname=server.host,
            port=server.port,
            userid=server.user or None,
            password=server.password or None,
            virtual_host=server.path or None,
            login_method=server.query.get("login_method"),
            transport=Transport,
            heartbeat=heartbeat,
            connect_timeout=connect_timeout,
            ssl=_ssl(server, ssl),
            transport_options={
                "read_timeout": socket_timeout,
                "write_timeout": socket_timeout,
                "client_properties": {"connection_name": name},
                **transport_options,
            },
        )
        try:
            # kombu's own connect() would sleep for two seconds before it tries the host again.
            connection.ensure_connection(
                max_retries=0, interval_start=0, reraise_as_library_errors=False
            )
        except BaseException as exc:
            drop(connection)
            if server is found[-1] or not isinstance(exc, connection.recoverable_connection_errors):
                raise
            if refused := refusal(exc):
                logger.warning("Not connected to %s: %s.", address_of(server, ssl), refused)
        else:
            break
    return connection


def _ssl(server: ServerURL, options: Mapping[str, Any] | None) -> dict[str, Any] | bool:
    """Return kombu's `ssl` for one server."""
    if not encrypted(server, options):
        return False
    # By the URL: kombu makes an address of "localhost".
    return {"server_hostname": server.host} | {
        option: value for option, value in (options or {}).items() if value is not None
    }


def encrypted(server: ServerURL, options: Mapping[str, Any] | None) -> bool:
    """Tell whether a connection to a server is encrypted, with these options in SSL."""
    return server.scheme == "amqps" or options is not None


def refusal(exc: BaseException) -> str:
    """Return what a broker refuses that does not let us in, and what to do; "" if it is not that.

    No part of it is a secret: what brokers say names users and virtual hosts, never passwords.
    """
    said = getattr(exc, "reply_text", "") or text_of(exc)
    if isinstance(exc, SSLCertVerificationError):
        return (
            f"its certificate is not trusted, and nothing was sent to it ({exc.verify_message}). "
            "Correct the host in the URL, or name its authority in SSL['ca_certs']"
        )
    if isinstance(exc, UnusableFile):
        return f"{said}. Correct the path, or the file"
    if isinstance(exc, AccessRefused):
        if "Login was refused" in said:
            return (
                f"user name or password is refused ({said}). Correct them in its URL, or at the "
                "broker: rabbitmqctl add_user, or change_password"
            )
        return (
            f"permission is refused ({said}). Grant it to the user, or correct the URL"
            f"{_command(said, exc.method_sig)}"
        )
    # The same code stands for a limit of connections, and for a virtual host that is down.
    if isinstance(exc, NotAllowed) and "vhost" in said and not re.search("limit|down", said):
        return (
            f"the virtual host is refused ({said}). Create it, give the user permissions there, or "
            f"correct the path of the URL{_command(said)}"
        )
    return ""


def _command(said: str, method: tuple[int, int] | None = None) -> str:
    found = permissions.command(said, method)
    return f". In RabbitMQ: {found}" if found else ""


def drop(connection: Connection) -> None:
    """Close a connection that may be broken, without waiting for an answer from the other side."""
    try:
        connection.collect(socket_timeout=1)
    except (AMQPError, OSError):
        logger.debug("Error while dropping the broker connection", exc_info=True)


def address(url: str, ssl: Mapping[str, Any] | None = None) -> str:
    """Return a broker's URL, or several, without credentials, for people; never raises."""
    try:
        return ";".join(address_of(each, ssl) for each in urls.read(url, options=None))
    except ConfigurationError:
        return urls.MALFORMED


def address_of(server: ServerURL, ssl: Mapping[str, Any] | None = None) -> str:
    """Return where one broker is, for people, with its port."""
    return server.address(5671 if encrypted(server, ssl) else 5672)

"""What a connection to a broker gives away, and to whom: for `check --deploy`."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django.core.checks import CheckMessage, Warning

from outbox.amqp import connection as amqp
from outbox.amqp import tls
from outbox.amqp.urls import ServerURL

OURS = "Take check_hostname and cert_reqs out of SSL; name an authority of your own in ca_certs."


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """How a process connects to one server; `verified` is chain and host name of its certificate.

    `remedy` says how to verify it.
    """

    address: str
    here: bool
    encrypted: bool
    verified: bool
    credentials: bool = True
    guest: bool = False
    remedy: str = OURS


def amqp_links(url: str, ssl: Mapping[str, Any] | None) -> list[Link]:
    """Return how we connect to AMQP brokers; raise ConfigurationError if it can't be told."""
    options = tls.read(ssl)
    return [
        Link(
            address=amqp.address_of(server, ssl),
            here=server.here,
            encrypted=amqp.encrypted(server, ssl),
            verified=options.verifies_host,
            guest=is_guest(server),
        )
        for server in amqp.read(url)
    ]


def is_guest(server: ServerURL) -> bool:
    """Tell whether an AMQP broker takes us for the user guest, as it does without any."""
    return server.user in ("", "guest") and server.query.get("login_method") != "EXTERNAL"


def warnings(where: str, links: Iterable[Link], ids: tuple[str, str, str]) -> list[CheckMessage]:
    """Return what there is to warn of, for servers on another machine.

    `where` is what is configured. The ids are those of credentials in the clear, of guest, and of a
    server that is not verified.
    """
    clear, guest, unverified = ids
    found: list[CheckMessage] = []
    for link in links:
        if link.here:
            continue
        if not link.encrypted and link.credentials:
            found.append(
                Warning(
                    f"{where}: user and password go in the clear to {link.address}.",
                    hint="Use TLS: amqps:// for AMQP, rediss:// for Redis.",
                    id=clear,
                )
            )
        if link.guest:
            found.append(
                Warning(
                    f"{where}: the user at {link.address} is guest, which everybody knows.",
                    hint="Create a user with the permissions that it needs, and delete guest.",
                    id=guest,
                )
            )
        if link.encrypted and not link.verified:
            found.append(
                Warning(
                    f"{where}: whoever answers at {link.address} is trusted, and gets what is sent "
                    "there: certificate or host name is not checked.",
                    hint=link.remedy,
                    id=unverified,
                )
            )
    return found

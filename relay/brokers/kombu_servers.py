"""What kombu is given to connect to the servers of a URL that is none of AMQP."""

import ssl
from collections.abc import Mapping
from typing import Any

from kombu import Connection

from outbox.amqp import connection as amqp
from outbox.amqp import urls
from outbox.amqp.exposure import Link, is_guest
from outbox.amqp.urls import ServerURL
from outbox.exceptions import ConfigurationError

REDIS = ("redis", "rediss")

REDIS_SSL = (
    "ssl_ca_certs",
    "ssl_ca_data",
    "ssl_ca_path",
    "ssl_cert_reqs",
    "ssl_certfile",
    "ssl_check_hostname",
    "ssl_ciphers",
    "ssl_exclude_verify_flags",
    "ssl_include_verify_flags",
    "ssl_keyfile",
    "ssl_min_version",
    "ssl_password",
)
"""What redis-py knows."""

CERT_REQS = {
    "none": ssl.CERT_NONE,
    "optional": ssl.CERT_OPTIONAL,
    "required": ssl.CERT_REQUIRED,
}
"""What stands for the constants of Python's ssl in a URL, with CERT_ before them or not."""


def servers(url: str, options: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Return what kombu's Connection is given for each server; `options` are those of SSL.

    Redis servers one by one: of a list kombu would keep the port and more of those before. All
    others, which may need their list as a whole, as kombu reads them.
    """
    found = urls.read(url, options=None)
    if all(each.scheme in REDIS for each in found):
        return [_redis(each, options) for each in found]
    if len({each.scheme for each in found}) > 1:
        raise ConfigurationError("The URLs of a list must be of one transport")
    if found[0].scheme == "redis+socket":
        urls.read(url, options=("virtual_host", "credential_provider"))
    given: dict[str, Any] = {"hostname": ";".join(map(_lowered, url.split(";")))}
    if options is not None:
        given["ssl"] = _redis_ssl(options) if found[0].scheme == "sentinel" else dict(options)
    try:
        Connection(**given)
    except Exception as exc:
        problem = type(exc).__name__
    else:
        return [given]
    raise ConfigurationError(f"kombu cannot use the broker's URL ({problem})")


def links(url: str, options: Mapping[str, Any] | None) -> list[Link]:
    """Return how we connect to the servers of a URL, as far as it is known: to Redis."""
    found = urls.read(url, options=None)
    if any(each.scheme not in REDIS for each in found):
        return []
    return [
        Link(
            address=server.address(6379),
            here=server.here,
            encrypted="ssl" in given,
            verified=given.get("ssl", {}).get("ssl_check_hostname", False),
            credentials=bool(server.password),
            remedy="Take ssl_check_hostname and ssl_cert_reqs out of SSL and out of the URL; name "
            "an authority of your own in ssl_ca_certs.",
        )
        for server, given in zip(found, servers(url, options), strict=True)
    ]


def celery_links(url: str, use_ssl: Any) -> list[Link]:
    """Return how Celery itself connects, with its setting broker_use_ssl, to AMQP and Redis.

    kombu checks no host name of an AMQP broker unless it is told to, and nothing of Redis.
    """
    options = use_ssl if isinstance(use_ssl, Mapping) else {}
    found = []
    for server in urls.read(url, options=None):
        if server.scheme in amqp.SCHEMES:
            found.append(
                Link(
                    address=amqp.address_of(server, options or None),
                    here=server.here,
                    encrypted=server.scheme == "amqps" or bool(use_ssl),
                    verified="server_hostname" in options
                    and options.get("cert_reqs") != ssl.CERT_NONE,
                    guest=is_guest(server),
                    remedy="Set broker_use_ssl to {'server_hostname': None}, which is the URL's "
                    "host, with an authority of your own in 'ca_certs'.",
                )
            )
        elif server.scheme in REDIS:
            given = {**options, **server.query}
            found.append(
                Link(
                    address=server.address(6379),
                    here=server.here,
                    encrypted=server.scheme == "rediss" or bool(use_ssl),
                    verified=_requirement(given.get("ssl_cert_reqs", ssl.CERT_NONE))
                    in (ssl.CERT_OPTIONAL, ssl.CERT_REQUIRED)
                    and _flag(given.get("ssl_check_hostname", True)),
                    credentials=bool(server.password),
                    remedy="Set broker_use_ssl to {'ssl_cert_reqs': ssl.CERT_REQUIRED, "
                    "'ssl_check_hostname': True}, with an authority of your own in 'ssl_ca_certs'.",
                )
            )
    return found


def _lowered(url: str) -> str:
    """Return a URL with its scheme in small letters, as kombu knows them."""
    scheme, colon, rest = url.partition(":")
    return scheme.lower() + colon + rest


def _redis(server: ServerURL, options: Mapping[str, Any] | None) -> dict[str, Any]:
    if server.path.removeprefix("/").strip("0123456789"):
        raise ConfigurationError("The path of a Redis URL is the number of a database")
    query = dict(server.query)
    given: dict[str, Any] = {
        "transport": "redis",
        "hostname": server.host or "localhost",
        "port": server.port,
        "userid": server.user or None,
        "password": server.password or None,
        "virtual_host": server.path or None,
    }
    if "credential_provider" in query:
        given["credential_provider"] = query.pop("credential_provider")
    if options is None and not query and server.scheme == "redis":
        return given
    return {**given, "ssl": _redis_ssl({**(options or {}), **query})}


def _redis_ssl(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return redis-py's options for TLS: what is not said is checked."""
    unknown = set(options) - set(REDIS_SSL)
    if unknown:
        raise ConfigurationError(
            "SSL, or what stands behind '?' in a Redis URL, has unknown options. Known: "
            f"credential_provider, {', '.join(REDIS_SSL)}"
        )
    found = {name: value for name, value in options.items() if value is not None}
    reqs = _requirement(found.get("ssl_cert_reqs", ssl.CERT_REQUIRED))
    if reqs not in tuple(ssl.VerifyMode):
        raise ConfigurationError(
            "ssl_cert_reqs must be 'required', or 'none' to trust any server: ssl.CERT_REQUIRED, "
            "ssl.CERT_NONE"
        )
    check = _flag(found.get("ssl_check_hostname", True))
    return {
        **found,
        "ssl_cert_reqs": ssl.VerifyMode(reqs),
        "ssl_check_hostname": check and reqs != ssl.CERT_NONE,
    }


def _requirement(value: Any) -> Any:
    """Return ssl's constant for what says so in a URL; anything else as it is."""
    return CERT_REQS.get(value.lower().removeprefix("cert_")) if isinstance(value, str) else value


def _flag(value: Any) -> bool:
    return value.lower() != "false" if isinstance(value, str) else bool(value)

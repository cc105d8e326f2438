"""Turn a database URL into an entry of the DATABASES setting, and back.

The URLs are those of libpq (section "Connection URIs" of PostgreSQL's manual) and, for SQLite,
those of SQLAlchemy: three slashes before a relative path, four before an absolute one.
"""

import re
from typing import Any
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

from django.core.exceptions import ImproperlyConfigured

from outbox.amqp import urls

# What libpq accepts in the query as well as in the main part; Django has settings for each.
_SETTING_OF_PARAMETER = {
    "dbname": "NAME",
    "user": "USER",
    "password": "PASSWORD",
    "host": "HOST",
    "port": "PORT",
}


def parse(url: str) -> dict[str, Any]:
    """Return the DATABASES entry for ``postgresql://…`` or ``sqlite:///…``.

    Raises ImproperlyConfigured, without repeating the URL, which may hold a password.
    """
    if problem := urls.flaw(url):
        raise ImproperlyConfigured(f"DATABASE_URL {problem}.")
    scheme = url.partition(":")[0]
    if scheme in ("postgresql", "postgres"):
        return _parse_postgresql(_split(url))
    if scheme == "sqlite":
        return _parse_sqlite(_split(url))
    begins = f"begins with {scheme!r}" if re.match(r"[a-z]+://", url) else "begins with no scheme"
    raise ImproperlyConfigured(
        f"DATABASE_URL {begins}: use postgresql://user:password@host:port/name or sqlite:///path."
    )


def compose(settings: dict[str, Any]) -> str:
    """Return the URL that parses to these settings, for child processes to use the database."""
    if settings["ENGINE"].endswith("sqlite3"):
        return f"sqlite:///{quote(str(settings['NAME']))}"
    # Everything goes into the query: there, unlike before the slash, a socket directory is allowed.
    parameters = {p: str(settings.get(s) or "") for p, s in _SETTING_OF_PARAMETER.items()}
    parameters |= {k: str(v) for k, v in settings.get("OPTIONS", {}).items()}
    given = {name: value for name, value in parameters.items() if value}
    return f"postgresql:///?{urlencode(given, quote_via=quote)}"


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
    except ValueError:  # whose text has a part of the URL
        parts = None
    if parts is None or parts.fragment or "@" in parts.path + parts.query:
        raise ImproperlyConfigured(
            "DATABASE_URL cannot be read: user, password and name must be percent-encoded. In them "
            "'/' is '%2F', '?' is '%3F', '#' is '%23', '@' is '%40', ':' is '%3A'."
        )
    return parts


def _parse_postgresql(parts: SplitResult) -> dict[str, Any]:
    credentials, _, addresses = parts.netloc.rpartition("@")
    user, _, password = credentials.partition(":")
    # Not `parts.hostname`: it lowers the case of a socket directory and knows one address only.
    hosts, ports = zip(*map(_split_address, addresses.split(",")), strict=True)
    settings = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path.removeprefix("/")),
        "USER": unquote(user),
        "PASSWORD": unquote(password),
        "HOST": ",".join(hosts),
        "PORT": ",".join(ports) if any(ports) else "",
    }
    options = {}
    # libpq, unlike an HTML form, means a plus sign by a plus sign.
    for name, value in parse_qsl(parts.query.replace("+", "%2B"), keep_blank_values=True):
        if name in _SETTING_OF_PARAMETER:
            settings[_SETTING_OF_PARAMETER[name]] = value
        else:
            options[name] = value
    if not settings["NAME"]:
        raise ImproperlyConfigured("DATABASE_URL names no database: add it as the path, /name.")
    return {**settings, "OPTIONS": options}


def _split_address(address: str) -> tuple[str, str]:
    host, colon, port = address.rpartition(":")
    if not colon or port.endswith("]"):  # no port, or the last colon is one of an IPv6 address
        host, port = address, ""
    if not port.isdigit() and port:
        raise ImproperlyConfigured(
            "DATABASE_URL has a port that is no number. If it is a part of the password, that must "
            "be percent-encoded: '/' is '%2F', '@' is '%40', ':' is '%3A'."
        )
    return unquote(host.removeprefix("[").removesuffix("]")), port


def _parse_sqlite(parts: SplitResult) -> dict[str, Any]:
    if parts.query:
        raise ImproperlyConfigured("DATABASE_URL has options after '?': SQLite takes none here.")
    name = unquote(parts.path.removeprefix("/")) or parts.netloc or ":memory:"
    settings: dict[str, Any] = {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": name,
        # Several processes write: queue for the lock from the start instead of failing half-way.
        "OPTIONS": {
            "timeout": 20,
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        },
    }
    if name != ":memory:":
        # A file as well: other processes and threads have to see the database of the tests.
        settings["TEST"] = {"NAME": f"{name}.test"}
    return settings

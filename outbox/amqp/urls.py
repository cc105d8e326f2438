"""URLs of servers: read strictly, and shown without what is secret in them.

urllib and kombu guess what a malformed URL means, and a guess ends at another server or as another
user. Here it is refused. No text that is made here contains a user, a password or an option.
"""

import ipaddress
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, unquote

from outbox.exceptions import ConfigurationError

HIDDEN = "***"
MALFORMED = "a malformed URL"

_URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://"
    r"(?:(?P<user>[^:/?#]*)(?::(?P<password>[^/?#]*))?@)?"
    r"(?P<host>\[[^\]/?#@]*\]|[^:@/?#\[\]]*)(?::(?P<port>[^:@/?#\[\]]*))?"
    # A bare '@' from here on is a sign that the password has a bare '/', '?' or '#'.
    r"(?:/(?P<path>[^?#@]*))?(?:\?(?P<query>[^#@]*))?"
)
_BARE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_HOST = re.compile(r"[\w.-]*")
_CREDENTIALS = re.compile(r"(?<=://)\S*@")
_SECRET = re.compile(r"://[^:/?#]*:(.*)@", re.DOTALL)
_SHORTEST_SECRET = 4
"""Of a shorter one the gaps in a text would tell more than they hide."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerURL:
    """One URL, decoded; the scheme in small letters, the path without its first slash."""

    scheme: str
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    host: str = ""
    port: int | None = None
    path: str = ""
    query: Mapping[str, str] = field(default_factory=dict, repr=False)

    def address(self, default_port: int | None = None) -> str:
        """Return the URL without credentials and options, for people."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = self.port or default_port
        path = f"/{quote(self.path)}" if self.path else ""
        return f"{self.scheme}://{host}{f':{port}' if port else ''}{path}"

    @property
    def here(self) -> bool:
        """Whether the server is on this machine: what is sent to it crosses no network."""
        if not self.host or self.host.lower() == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host.partition("%")[0]).is_loopback
        except ValueError:
            return False


def read(url: str, *, options: Collection[str] | None = ()) -> list[ServerURL]:
    """Return the URLs of a list joined by ';', which may be one.

    `options` are the names that may stand behind '?', None for any. Raises ConfigurationError for
    what cannot be read for certain; its text has no part of the URL.
    """
    parts = url.split(";")
    return [_read(part, _which(n, len(parts)), options) for n, part in enumerate(parts, 1)]


def flaw(url: str) -> str:
    """Return what is wrong with the characters of any URL, for "The URL …"; "" if nothing is."""
    if not url:
        return "is empty"
    if not url.isprintable() or " " in url:
        return "has white space, a line break or a character that cannot be seen in it"
    if _BARE_PERCENT.search(url):
        return "has a '%' without two hexadecimal digits behind it; a percent sign itself is '%25'"
    try:
        unquote(url, errors="strict")
    except UnicodeDecodeError:
        return "is percent-encoded in another way than UTF-8"
    return ""


def shown(url: str) -> str:
    """Return a URL, or several, without credentials and options, for people; never raises."""
    try:
        return ";".join(each.address() for each in read(url, options=None))
    except ConfigurationError:
        return MALFORMED


def scrubbed(text: str, url: str) -> str:
    """Return a text, of a library's error say, without the passwords of `url` and of any other."""
    for secret in sorted(_secrets(url), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return _CREDENTIALS.sub(f"{HIDDEN}@", text)


def _secrets(url: str) -> Iterator[str]:
    for part in url.split(";"):
        if found := _SECRET.search(part):
            for form in (found[1], unquote(found[1]), quote(unquote(found[1]), safe="")):
                # What is the user's name as well, such as guest, is said by brokers anyway.
                if len(form) >= _SHORTEST_SECRET and not part[: found.start(1)].endswith(
                    f"//{form}:"
                ):
                    yield form


def _which(number: int, count: int) -> str:
    return "The URL" if count == 1 else f"URL {number} of {count}"


def _read(url: str, which: str, options: Collection[str] | None) -> ServerURL:
    if problem := flaw(url):
        raise ConfigurationError(f"{which} {problem}.")
    if _CONTROL.search(unquote(url)):
        raise ConfigurationError(f"{which} has a percent-encoded line break or control character.")
    if "://" not in url:
        raise ConfigurationError(
            f"{which} does not begin with a scheme such as 'amqp://'. Several URLs are joined by "
            "';'; one within a URL must be percent-encoded, as '%3B'."
        )
    found = _URL.fullmatch(url)
    if found is None:
        raise ConfigurationError(
            f"{which} cannot be read: user, password and virtual host must be percent-encoded: '/' "
            "is '%2F', '?' is '%3F', '#' is '%23', '@' is '%40', ':' is '%3A'."
        )
    return ServerURL(
        scheme=found["scheme"].lower(),
        user=unquote(found["user"] or ""),
        password=unquote(found["password"] or ""),
        host=_host(found["host"], which),
        port=_port(found["port"], which),
        path=unquote(found["path"] or ""),
        query=_query(found["query"] or "", which, options),
    )


def _host(text: str, which: str) -> str:
    host = unquote(text.removeprefix("[").removesuffix("]"))
    try:
        if text.startswith("["):
            ipaddress.IPv6Address(host)
            return host
        host.encode("idna")
    except ValueError:  # of IDNA as well
        pass
    else:
        if _HOST.fullmatch(host):
            return host.lower()
    raise ConfigurationError(
        f"{which} has no usable host: a name, an IPv4 address, or an IPv6 address in brackets."
    )


def _port(text: str | None, which: str) -> int | None:
    if not text:
        return None
    if text.isascii() and text.isdecimal() and len(text) <= 5 and 0 < int(text) <= 65_535:
        return int(text)
    raise ConfigurationError(
        f"{which} has a port that is no number from 1 to 65535. If it is a part of the password, "
        "that must be percent-encoded: '/' is '%2F', '@' is '%40', ':' is '%3A'."
    )


def _query(text: str, which: str, options: Collection[str] | None) -> dict[str, str]:
    found = dict(parse_qsl(text, keep_blank_values=True))
    if options is not None and set(found) - set(options):
        # Not which: that may be the rest of a password with a bare '?'.
        known = f"known: {', '.join(sorted(options))}" if options else "it can have none"
        raise ConfigurationError(
            f"{which} has an unknown option behind '?'; {known}. Others belong in the settings; a "
            "'?' in a password must be percent-encoded, as '%3F'."
        )
    return found

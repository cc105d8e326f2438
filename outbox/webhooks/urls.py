"""Which URLs may be called back, and how they are shown. Pure: nothing is resolved.

Parsers disagree about odd URLs, and the one who checks must see the host that the one who
connects sees. So only one way to write each URL is accepted.
"""

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

MAX_URL = 2000
_PORTS = range(1, 65_536)
_PRINTABLE = re.compile(r"[!-~]+")
_NOT_IN_URL = re.compile(r"[\\\"<>^`{|}]")
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NAME = re.compile(rf"(?:{_LABEL}\.)*{_LABEL}")
# As the URL standard of WHATWG has it: such a host is an IPv4 address, whatever form that has.
_NUMBER = re.compile(r"(?:\d+|0[xX][0-9A-Fa-f]*)")


def flaw(url: object, *, http: bool) -> str | None:
    """Return what keeps a URL from being called back, or None; `http` allows that scheme.

    The text does not quote the URL, which may hold a token.
    """
    if not isinstance(url, str) or not url or len(url) > MAX_URL:
        return f"is a string of 1 to {MAX_URL:,} characters"
    if not _PRINTABLE.fullmatch(url) or _NOT_IN_URL.search(url):
        return "has characters that no URL has: write hosts as xn--…, all else percent-encoded"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "is no URL"
    if parts.scheme != "https" and not (http and parts.scheme == "http"):
        return "begins with https://" + (" or http://" if http else "")
    if "@" in parts.netloc:
        return "has a user or a password in it: the signature says who calls"
    if "#" in url:
        return "has a fragment, which is not sent to anybody"
    if parts.netloc.endswith(":") or (port is not None and port not in _PORTS):
        return "has a port that is none"
    return _host_flaw(parts)


def host_of(url: str) -> str:
    """Return the host of a URL without a flaw, without brackets, in lower case."""
    return urlsplit(url).hostname or ""


def address_of(url: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the host of a URL without a flaw, if that is an address and no name."""
    try:
        return ipaddress.ip_address(host_of(url))
    except ValueError:
        return None


def origin_of(url: str) -> str:
    """Return scheme, host and port of a URL without a flaw: all that is shown of it in logs."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.lower()}"


def shown(url: str) -> str:
    """Return a URL as people are shown it: with ••• for its query, which may hold a token."""
    before, mark, _ = url.partition("?")
    return f"{before}?•••" if mark else before


def _host_flaw(parts: SplitResult) -> str | None:
    host = parts.hostname or ""
    try:
        if parts.netloc.startswith("["):
            ipaddress.IPv6Address(host)
            return "has a zone in its address" if "%" in host else None
        if _NUMBER.fullmatch(host.rpartition(".")[2]):
            ipaddress.IPv4Address(host)
            return None
    except ValueError:
        return "has a host that is no IP address, and looks like one"
    if len(host) > 253 or not _NAME.fullmatch(host):
        return "has a host that is no name"
    return None

"""POST to somebody else's URL, without being led anywhere that it does not say.

requests-hardened resolves the name, refuses addresses that are not public, and connects to exactly
the one that it has looked at: it does not matter what the name resolves to afterwards. Beside that:
no redirect, no proxy and no password of the environment, no connection that is used again, nothing
of the body is read, headers are 32 KiB at most, and all is over at a deadline, however slowly the
answer drips.
"""

import errno
import http.client
import io
import logging
import ssl
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from ipaddress import IPv6Address, ip_address
from typing import Any

from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
from requests_hardened import Config, HTTPSession
from requests_hardened.ip_filter import InvalidIPAddress
from requests_hardened.ip_filter_adapter import IPFilterAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from outbox.interrupts import is_interrupt
from outbox.webhooks.addresses import Address, Subnet, is_allowed, plain
from relay.brokers.base import Outcome, Status
from relay.brokers.webhook.answers import Answer, answered, failed

CONNECT_SECONDS = 5.0
MOST_READ = 32 * 1024
"""Bytes of an answer that are read: its headers, and what comes with them."""
AGENT = "django-outbox-inbox"

_now = threading.local()  # the deadline of the POST that a thread is at

# One warns of each address that it refuses, also of those that settings list; the other writes each
# URL down, with its query. What there is to tell is told by the outcome.
for _name in (InvalidIPAddress.__module__, HTTPConnectionPool.__module__):
    logging.getLogger(_name).addFilter(lambda _: not hasattr(_now, "deadline"))


def post(
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    timeout: float,
    ca_file: str = "",
    subnets: Sequence[Subnet] = (),
) -> Answer:
    """POST a body to a URL that outbox.webhooks.urls has no objection to; raise nothing.

    `timeout` is in seconds, `subnets` may be called although they are private.
    """
    _now.deadline = time.monotonic() + timeout
    connect = min(CONNECT_SECONDS, timeout)
    session = _Session(
        Config(
            ip_filter_enable=True,
            ip_filter_allow_loopback_ips=False,
            never_redirect=True,
            default_timeout=(connect, timeout),
            user_agent_override=AGENT,
        )
    )
    session.trust_env = False  # no proxies, and no passwords of ~/.netrc
    session.verify = ca_file or True
    session.mount("https://", _Adapter(subnets, is_https_proto=True))
    session.mount("http://", _Adapter(subnets, is_https_proto=False))
    try:
        with (
            session,
            session.post(
                url, data=body, headers={**headers, "Connection": "close"}, stream=True
            ) as response,
        ):
            after = response.headers.get("Retry-After", "")
            return answered(response.status_code, after, datetime.now(UTC))
    except InvalidIPAddress as exc:
        text = f"its host has the address {exc.args[0]}, which must not be called"
        return Answer(Outcome(Status.REFUSED, text))
    except BaseException as exc:
        if is_interrupt(exc):
            raise
        return failed(exc, timeout)
    finally:
        del _now.deadline


class _Session(HTTPSession):  # type: ignore[misc]
    def get_redirect_target(self, resp: Response) -> str | None:
        """Return nothing: else requests would read a whole body to prepare what we never do."""
        return None


class _Adapter(IPFilterAdapter):  # type: ignore[misc]
    """Refuses addresses by our list as well, and lets those of some subnets pass."""

    def __init__(self, subnets: Sequence[Subnet], *, is_https_proto: bool) -> None:
        self._subnets = subnets
        super().__init__(is_https_proto=is_https_proto)

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TLSPool}

    def build_connection_pool_key_attributes(
        self, request: PreparedRequest, verify: Any, cert: Any = None
    ) -> tuple[Any, Any]:
        try:
            place, options = super().build_connection_pool_key_attributes(request, verify, cert)
        except InvalidIPAddress as exc:
            # It has resolved the name, and has set the header Host, before it refused the address.
            address = plain(exc.args[0])
            if not is_allowed(address, self._subnets):
                raise
            place, options = HTTPAdapter.build_connection_pool_key_attributes(
                self, request, verify, cert
            )
            if self._is_https_proto:
                options["assert_hostname"] = options["server_hostname"] = place["host"]
            place["host"] = _written(address)
            return place, options
        address = ip_address(place["host"].strip("[]"))
        if not is_allowed(address, self._subnets):
            raise InvalidIPAddress(address)
        return place, options


def _written(address: Address) -> str:
    return f"[{address}]" if isinstance(address, IPv6Address) else str(address)


class _Bounded:
    """A connection whose answer has to come before the deadline, all of it."""

    def response_class(self, sock: Any, *args: Any, **options: Any) -> http.client.HTTPResponse:
        return http.client.HTTPResponse(_Deadlined(sock), *args, **options)  # type: ignore[arg-type]


class _Connection(_Bounded, HTTPConnection):  # type: ignore[misc]
    pass


class _TLSConnection(_Bounded, HTTPSConnection):  # type: ignore[misc]
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TLSPool(HTTPSConnectionPool):
    ConnectionCls = _TLSConnection


class _Deadlined:
    """What http.client wants of a socket: a file to read from."""

    def __init__(self, sock: ssl.SSLSocket) -> None:
        self._sock = sock

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Answer(self._sock, _now.deadline))


class _Answer(io.RawIOBase):
    """Reads from a socket until a deadline, by time.monotonic(), and no more than MOST_READ."""

    def __init__(self, sock: ssl.SSLSocket, deadline: float) -> None:
        self._sock = sock
        self._deadline = deadline
        self._left = MOST_READ
        self._file = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the deadline has passed")
        if self._left <= 0:
            raise OSError(errno.EMSGSIZE, f"its headers are larger than {MOST_READ // 1024} KiB")
        self._sock.settimeout(left)
        count: int = self._file.readinto(memoryview(buffer)[: self._left]) or 0
        self._left -= count
        return count

    def close(self) -> None:
        self._file.close()
        super().close()

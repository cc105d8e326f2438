"""Ask other services what they know of a conversation: all at once, and not for long.

A peer may be away, be slow, or lie. It costs a page PATIENCE seconds and wire.MAX_BYTES at most,
and the page says why it has nothing of it. Redirects are not followed, since the token is for
nobody else; a proxy of the environment is not asked.
"""

import http.client
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from socket import SHUT_RDWR
from typing import Literal
from urllib.parse import urlencode, urlsplit

from django.utils.translation import gettext as _

from outbox.conf import outbox_settings
from outbox.error_text import describe
from outbox.flow import wire
from outbox.flow.conf import Peer
from outbox.flow.halves import Half

PATIENCE = 1.0
"""Seconds that all peers together have to answer."""
AT_ONCE = 4
"""Questions that one process has open with a peer."""
_CHUNK = 64 * 1024

_PLAIN = http.client.HTTPConnection
_slots: dict[str, threading.BoundedSemaphore] = {}


@dataclass(frozen=True, slots=True)
class Told:
    """What a peer has said, or `why` that cannot be used."""

    peer: str
    half: Half | None = None
    why: str = ""


class _Refused(Exception):
    """A peer's answer is no use; the text says why."""


def ask(
    peers: Mapping[str, Peer],
    name: str,
    *,
    by: Literal["of", "key"] = "of",
    patience: float = PATIENCE,
) -> Callable[[], Sequence[Told]]:
    """Ask peers what they know under a name; return what waits for their answers.

    The name is a correlation id or a message id, or a key with `by` "key". What is done meanwhile
    costs no time.
    """
    deadline = time.monotonic() + patience
    calls = [_Call(peer, options, {by: name}, deadline) for peer, options in peers.items()]

    def answers() -> Sequence[Told]:
        return [call.result() for call in calls]

    return answers


class _Call:
    """A question to one peer, in a thread that nobody waits for longer than agreed."""

    def __init__(self, name: str, peer: Peer, query: Mapping[str, str], deadline: float) -> None:
        self._name, self._peer, self._query, self._deadline = name, peer, query, deadline
        self._told: Told | None = None
        self._connection: http.client.HTTPConnection | None = None
        self._slot = _slots.setdefault(f"{name} {peer.URL}", threading.BoundedSemaphore(AT_ONCE))
        self._thread: threading.Thread | None = None
        if self._slot.acquire(blocking=False):
            self._thread = threading.Thread(target=self._run, name="flow-peer", daemon=True)
            self._thread.start()

    def result(self) -> Told:
        """Return what was said until the deadline."""
        if self._thread is None:
            return Told(self._name, why=_("too many questions to it are open already"))
        self._thread.join(max(0.0, self._deadline - time.monotonic()))
        if (told := self._told) is not None:
            return told
        self._give_up()
        return Told(self._name, why=_("it did not answer in time"))

    def _give_up(self) -> None:
        connection = self._connection
        with suppress(Exception):
            if connection is not None and connection.sock is not None:
                connection.sock.shutdown(SHUT_RDWR)

    def _run(self) -> None:
        try:
            self._told = self._ask()
        finally:
            self._slot.release()

    def _ask(self) -> Told:
        try:
            answer = wire.decode(self._body())
        except _Refused as exc:
            why = str(exc)
        except wire.Unreadable as exc:
            why = _("its answer is not as it must be: %(why)s") % {"why": exc}
        except TimeoutError:
            why = _("it did not answer in time")
        except ssl.SSLCertVerificationError as exc:
            why = _("its certificate is not to be trusted: %(why)s") % {"why": exc.verify_message}
        except Exception as exc:  # whatever the network and what is at its other end make of it
            why = describe(exc, 200)
        else:
            if answer.service != outbox_settings().source:
                return Told(self._name, answer.half(self._name))
            why = _("it says that it is this service itself")
        return Told(self._name, why=why)

    def _body(self) -> bytes:
        parts = urlsplit(self._peer.URL)
        assert parts.hostname is not None  # Peer has looked
        secure = parts.scheme == "https"
        connect = partial(http.client.HTTPSConnection, context=_context()) if secure else _PLAIN
        connection = connect(parts.hostname, parts.port, timeout=self._left())
        self._connection = connection
        try:
            headers = {
                "Authorization": f"Bearer {self._peer.TOKEN}",
                "Accept": "application/json",
                "Accept-Encoding": "identity",
                "Connection": "close",
            }
            target = f"{parts.path or '/'}?{urlencode(self._query)}"
            connection.request("GET", target, headers=headers)
            return self._read(connection.getresponse())
        finally:
            connection.close()

    def _read(self, response: http.client.HTTPResponse) -> bytes:
        if 300 <= response.status < 400:
            raise _Refused(_("it redirects, which is not followed"))
        if response.status in (401, 403):
            raise _Refused(_("it refuses our token"))
        if response.status != 200:
            raise _Refused(_("it answers %(status)s") % {"status": response.status})
        found = bytearray()
        while chunk := response.read1(_CHUNK):
            found += chunk
            if len(found) > wire.MAX_BYTES:
                raise _Refused(_("its answer is too long"))
            self._left()
        if response.length:  # what it has promised and not sent
            raise _Refused(_("its answer breaks off"))
        return bytes(found)

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


def _context() -> ssl.SSLContext:
    return ssl.create_default_context()

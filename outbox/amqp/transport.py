"""How frames are read from an AMQP broker: all that has arrived with one call.

py-amqp asks the socket for each frame's head, payload and end. Once it has a frame's first byte it
waits for the rest, whatever the timeout: a link that dies within a frame would hold a process for
ever, and with a timeout of zero at full speed. Here what has arrived of a frame is kept when the
time is over, and the next read goes on with it.
"""

import struct
from collections.abc import Mapping
from ssl import SSLWantReadError, SSLWantWriteError
from typing import Any

from amqp.exceptions import UnexpectedFrame
from amqp.transport import SSLTransport, TCPTransport
from kombu.transport import pyamqp

from outbox.amqp import tls

READ_BYTES = 128 * 1024
_HEAD, _END = 7, 0xCE

_head = struct.Struct(">BHI").unpack_from


class _ReadsAhead:
    """Reads for a transport of py-amqp."""

    sock: Any
    connected: bool
    _ahead = b""
    _at = 0

    def read_frame(self, unpack: Any = None) -> tuple[int, int, bytes]:
        """Return type, channel and payload of the next frame; raise TimeoutError if time is up."""
        while True:
            ahead, at = self._ahead, self._at
            there = len(ahead) - at
            if there > _HEAD:
                kind, channel, size = _head(ahead, at)
                if there > _HEAD + size:
                    start, end = at + _HEAD, at + _HEAD + size
                    if ahead[end] != _END:
                        raise UnexpectedFrame(f"a frame ends with {ahead[end]:#04x}, not 0xce")
                    self._at = end + 1
                    return kind, channel, ahead[start:end]
            received = self._receive()
            self._ahead, self._at = ahead[at:] + received, 0

    def _receive(self) -> bytes:
        try:
            data: bytes = self.sock.recv(READ_BYTES)
        except (BlockingIOError, SSLWantReadError, SSLWantWriteError) as exc:
            raise TimeoutError from exc
        except TimeoutError:
            raise
        except OSError:
            self.connected = False
            raise
        if not data:
            self.connected = False
            raise OSError("Server unexpectedly closed connection")
        return data


class TCP(_ReadsAhead, TCPTransport):
    """A plain connection."""


class TLS(_ReadsAhead, SSLTransport):
    """An encrypted one, which knows whom it talks to; see outbox.amqp.tls."""

    def _wrap_socket(self, sock: Any, **options: Any) -> Any:
        return tls.read(options).wrap(sock, self.host)


class _Connection(pyamqp.Connection):
    def Transport(  # noqa: N802 - py-amqp's name for what it calls
        self,
        host: str,
        connect_timeout: float | None,
        ssl: bool | dict[str, Any] = False,
        read_timeout: float | None = None,
        write_timeout: float | None = None,
        socket_settings: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Any:
        return (TLS if ssl else TCP)(
            host,
            connect_timeout=connect_timeout,
            ssl=ssl,
            read_timeout=read_timeout,
            write_timeout=write_timeout,
            socket_settings=socket_settings,
            **options,
        )


class Transport(pyamqp.Transport):
    """kombu's transport, with connections that read so."""

    Connection = _Connection

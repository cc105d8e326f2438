"""Frames are read as they arrive, in whatever pieces."""

import socket
import struct
from collections.abc import Iterator
from ssl import SSLWantReadError, SSLWantWriteError
from types import SimpleNamespace

import pytest
from amqp.exceptions import UnexpectedFrame

from outbox.amqp.transport import TCP, TLS, Transport

Sides = tuple[TCP, socket.socket]


@pytest.fixture
def sides() -> Iterator[Sides]:
    """A transport that reads without waiting, and the other end of its connection."""
    ours, theirs = socket.socketpair()
    transport = TCP("nowhere:5672")
    transport.sock, transport.connected = ours, True
    ours.setblocking(False)
    yield transport, theirs
    ours.close()
    theirs.close()
    transport.sock = None


def frame(payload: bytes, end: bytes = b"\xce") -> bytes:
    return struct.pack(">BHI", 1, 7, len(payload)) + payload + end


def test_a_frame_that_has_not_arrived_in_full_is_waited_for_no_longer_than_asked(
    sides: Sides,
) -> None:
    """What has come of it is kept for the next read, wherever it breaks off."""
    transport, broker = sides
    whole = frame(b"hello")
    for number in range(len(whole)):
        with pytest.raises(TimeoutError):
            transport.read_frame()
        assert transport.connected
        broker.sendall(whole[number : number + 1])

    assert transport.read_frame() == (1, 7, b"hello")


def test_many_frames_that_arrive_at_once_are_read_one_by_one(sides: Sides) -> None:
    """Empty ones and large ones too, and the piece of one behind them."""
    transport, broker = sides
    payloads = [b"", b"a", b"b" * 9_000, b"", b"c"]
    last = frame(b"last")
    broker.sendall(b"".join(map(frame, payloads)) + last[:5])

    assert [transport.read_frame() for _ in payloads] == [(1, 7, each) for each in payloads]
    with pytest.raises(TimeoutError):
        transport.read_frame()
    broker.sendall(last[5:])
    assert transport.read_frame() == (1, 7, b"last")


def test_what_is_no_frame_is_an_error(sides: Sides) -> None:
    """The end of a frame is where its length says, or nothing can be believed."""
    transport, broker = sides
    broker.sendall(frame(b"hello", end=b"\x00"))

    with pytest.raises(UnexpectedFrame):
        transport.read_frame()


def test_a_connection_that_is_closed_within_a_frame_is_lost(sides: Sides) -> None:
    """Not a timeout: nothing more will come."""
    transport, broker = sides
    broker.sendall(frame(b"hello")[:5])
    broker.close()

    with pytest.raises(OSError, match="closed") as caught:
        transport.read_frame()
    assert not isinstance(caught.value, TimeoutError)
    assert not transport.connected


@pytest.mark.parametrize(
    "error", [BlockingIOError, SSLWantReadError, SSLWantWriteError, TimeoutError]
)
def test_a_read_that_would_have_to_wait_is_a_timeout(error: type[OSError]) -> None:
    """Whatever the socket calls it, encrypted or not; the connection is not lost."""

    def recv(size: int) -> bytes:
        raise error

    transport = TLS("nowhere:5671")
    transport.sock, transport.connected = SimpleNamespace(recv=recv), True
    with pytest.raises(TimeoutError):
        transport.read_frame()
    assert transport.connected
    transport.sock = None


@pytest.mark.parametrize(("ssl", "kind"), [(False, TCP), ({"cert_reqs": 0}, TLS), (True, TLS)])
def test_a_connection_is_encrypted_if_that_was_asked_for(ssl: object, kind: type[object]) -> None:
    """By the same way of reading."""
    connection = Transport.Connection("nowhere:5671", ssl=ssl)

    assert type(connection.Transport("nowhere:5671", 1.0, ssl=connection.ssl)) is kind

"""The proxy fails in the ways that it promises, and in no other."""

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.proofs.faults.proxy import Proxy, Way

NOTHING_COMES = 0.2
"""Seconds for which to wait for what must not come."""


class Echo:
    """A server that repeats what it is told."""

    def __init__(self, listener: socket.socket) -> None:
        self.listener = listener
        self.heard = b""
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._echo, args=[connection], daemon=True).start()

    def _echo(self, connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(100):
                    self.heard += data
                    connection.sendall(data)
            except OSError:
                return


@pytest.fixture
def echo() -> Iterator[Echo]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield Echo(listener)


@pytest.fixture
def proxy(echo: Echo) -> Iterator[Proxy]:
    found = Proxy(echo.listener.getsockname())
    yield found
    found.close()


@pytest.fixture
def client(proxy: Proxy) -> Iterator[socket.socket]:
    with connect(proxy) as found:
        yield found


def connect(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=5)


def ask(client: socket.socket, text: bytes) -> bytes:
    client.sendall(text)
    return client.recv(100)


def assert_silent(client: socket.socket) -> None:
    client.settimeout(NOTHING_COMES)
    with pytest.raises(TimeoutError):
        client.recv(100)
    client.settimeout(5)


def assert_reset(client: socket.socket) -> None:
    with pytest.raises(ConnectionResetError):
        client.recv(100)


def test_everything_passes(client: socket.socket):
    """Without a fault a question gets its answer."""
    assert ask(client, b"hello") == b"hello"


def test_the_end_of_a_connection_passes(proxy: Proxy, client: socket.socket):
    """When a client has closed, the server is told and answers the same."""
    ask(client, b"hello")
    client.shutdown(socket.SHUT_WR)

    assert client.recv(100) == b""


def test_a_unix_socket_can_be_the_target(tmp_path: Path):
    """PostgreSQL listens on no network; the proxy does so for it."""
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        Echo(listener)
        proxy = Proxy(path)
        with connect(proxy) as client:
            assert ask(client, b"hello") == b"hello"
        proxy.close()


def test_a_stall_delivers_late(proxy: Proxy, client: socket.socket):
    """Bytes and new connections wait as long as it lasts; nothing of them is lost."""
    ask(client, b"hello")
    proxy.stall()
    client.sendall(b"late")
    assert_silent(client)

    proxy.flow()
    assert client.recv(100) == b"late"


def test_answers_alone_can_stall(proxy: Proxy, client: socket.socket, echo: Echo):
    """The server hears the client, who hears nothing."""
    ask(client, b"hello")
    proxy.stall(Way.DOWN)
    client.sendall(b"heard")
    assert_silent(client)
    assert echo.heard == b"hello" + b"heard"


def test_questions_alone_can_stall(proxy: Proxy, client: socket.socket, echo: Echo):
    """The server does not hear the client."""
    ask(client, b"hello")
    proxy.stall(Way.UP)
    client.sendall(b"unheard")
    assert_silent(client)
    assert echo.heard == b"hello"


def test_a_cut_resets_everything(proxy: Proxy, client: socket.socket):
    """Connections are reset, and so are new ones until it is over."""
    ask(client, b"hello")
    proxy.cut()
    assert_reset(client)
    with pytest.raises(ConnectionResetError), connect(proxy) as second:  # perhaps at once
        second.recv(100)

    proxy.flow()
    with connect(proxy) as third:
        assert ask(third, b"hello") == b"hello"


def test_what_is_abandoned_stays_silent(proxy: Proxy, client: socket.socket):
    """Half-open: an old connection gets neither answer nor end, a new one works."""
    ask(client, b"hello")
    proxy.abandon()
    client.sendall(b"anyone?")
    assert_silent(client)
    with connect(proxy) as second:
        assert ask(second, b"hello") == b"hello"

    proxy.flow()
    assert_silent(client)


def test_a_delay_is_counted_and_felt(proxy: Proxy, client: socket.socket):
    """Question and answer are each late by what was asked for."""
    ask(client, b"hello")
    proxy.delay(0.1)
    started = time.monotonic()
    ask(client, b"slow")

    assert time.monotonic() - started >= 0.2
    assert proxy.chunks_delayed == 2


def test_offending_bytes_reset_their_connection_alone(
    proxy: Proxy, client: socket.socket, echo: Echo
) -> None:
    """Also if they come in two pieces; after flow() they pass."""
    proxy.offend(b"offence")
    with connect(proxy) as other:
        client.sendall(b"off")
        assert client.recv(100) == b"off"
        client.sendall(b"ence")
        with pytest.raises(ConnectionResetError):
            client.recv(100)
        other.sendall(b"fine")
        assert other.recv(100) == b"fine"
        assert proxy.offences == 1
        proxy.flow()
        other.sendall(b"offence")
        assert other.recv(100) == b"offence"
    assert b"offence" not in echo.heard.replace(b"fineoffence", b"")

"""Other services that are asked: away, slow, lying, or right. Real sockets, no mocks."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings

from outbox.flow import peers, wire
from outbox.flow.conf import Peer
from outbox.flow.peers import Told, ask
from tests.kit.services.tls import Authority
from tests.kit.waiting import until
from tests.outbox.flow.test_wire import message, state, told

Answer = Callable[[socket.socket], object]
PATIENCE = 1.0
"""Seconds, of which a machine under load needs a part."""


def ok(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


class Server:
    """Answers each connection with a function, in a thread of its own, until it is closed."""

    def __init__(self, answer: Answer, context: Any = None) -> None:
        self._answer = answer
        self._context = context
        self.requests: list[bytes] = []
        self.done = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                found, _ = self._socket.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(found,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, found: socket.socket) -> None:
        with found:
            try:
                if self._context is not None:
                    found = self._context.wrap_socket(found, server_side=True)
                found.settimeout(5)
                self.requests.append(found.recv(65536))
                self._answer(found)
            except OSError:
                pass  # who asked has gone
            finally:
                found.close()

    def close(self) -> None:
        self.done.set()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for thread in self._threads:
            thread.join(10)


@contextmanager
def serving(answer: Answer | bytes, context: Any = None) -> Iterator[Server]:
    def send(found: socket.socket) -> None:
        assert isinstance(answer, bytes)
        found.sendall(answer)

    server = Server(send if isinstance(answer, bytes) else answer, context)
    try:
        yield server
    finally:
        server.close()


def peer(server: Server, **changes: str) -> Peer:
    return Peer(**{"URL": f"http://127.0.0.1:{server.port}/flow/", "TOKEN": "t0ken"} | changes)


def asked(answer: Answer | bytes, patience: float = 5.0) -> Told:
    with serving(answer) as server:
        [found] = ask({"far": peer(server)}, "flow", patience=patience)()
    return found


def asking() -> list[threading.Thread]:
    """Return the threads that wait for a peer."""
    return [each for each in threading.enumerate() if each.name == "flow-peer"]


@pytest.fixture(autouse=True)
def _no_thread_stays() -> Iterator[None]:
    yield
    until(lambda: not asking())


def test_a_peer_that_knows() -> None:
    """It is asked by name, with the token, and what it says is as if it were read here."""
    body = told(messages=[message()], stages=[state(error="no money")])
    with serving(ok(body)) as server:
        [found] = ask({"far": peer(server)}, "a b&c/é")()

    assert found.half is not None
    assert [each.id for each in found.half.sent] == ["a"]
    assert [each.peer for each in found.half.stages] == ["far"]
    [request] = server.requests
    assert request.startswith(b"GET /flow/?of=a+b%26c%2F%C3%A9 HTTP/1.1\r\n")
    assert b"\r\nAuthorization: Bearer t0ken\r\n" in request


def test_an_answer_in_pieces() -> None:
    """However a server sends it."""
    body = told(messages=[message()])
    parts = b"".join(b"1\r\n" + bytes([each]) + b"\r\n" for each in body)
    found = asked(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + parts + b"0\r\n\r\n")

    assert found.half is not None


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"", "RemoteDisconnected"),
        (b"HTTP/1.1 200 OK\r\nContent-Le", "its answer is not as it must be"),
        (b"SSH-2.0-OpenSSH\r\n", "BadStatusLine"),
        (ok(b"", status="401 Unauthorized"), "it refuses our token"),
        (ok(b"", status="403 Forbidden"), "it refuses our token"),
        (ok(b"<html>", status="500 Oh no"), "it answers 500"),
        (ok(b"", status="404 Not Found"), "it answers 404"),
        (ok(b"<html>"), "its answer is not as it must be"),
        (ok(told(version=2)), "its answer is not as it must be"),
        (ok(told(), "Content-Encoding: gzip")[:-9], "its answer breaks off"),
        (ok(told(service="/project")), "this service itself"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000, "HTTPException"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000, "LineTooLong"),
    ],
)
def test_a_peer_that_is_of_no_use(answer: bytes, why: str) -> None:
    """Is named with the reason, and that is all."""
    with override_settings(OUTBOX={"SOURCE": "/project"}):
        found = asked(answer)

    assert found.half is None
    assert why in found.why
    assert "t0ken" not in found.why


def test_a_redirect_is_not_followed() -> None:
    """The token is for one address."""
    with serving(ok(told())) as other:
        address = f"Location: http://127.0.0.1:{other.port}/"
        found = asked(ok(b"", address, status="302 Found"))

        assert found.why == "it redirects, which is not followed"
        assert other.requests == []


def test_ten_megabytes() -> None:
    """No more is read than an answer may have, whether its length is told or not."""
    sent: list[int] = []

    def flood(found: socket.socket) -> None:
        found.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(160):
            found.sendall(b" " * 65536)
            sent.append(65536)

    for answer in (flood, ok(b" " * 10_000_000)):
        assert asked(answer).why == "its answer is too long"
    assert sum(sent) < 3 * wire.MAX_BYTES


DRIPS = 1000
"""Bytes that a slow server sends, which takes longer than a test waits."""


def hang(found: socket.socket) -> None:
    while found.recv(1):
        pass  # until who asked has gone


def drip(found: socket.socket) -> None:
    found.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    for _ in range(DRIPS):
        found.sendall(b" ")
        time.sleep(0.02)


def drip_headers(found: socket.socket) -> None:
    found.sendall(b"HTTP/1.1 200 OK\r\n")
    for _ in range(DRIPS):
        found.sendall(b"X")
        time.sleep(0.02)


@pytest.mark.parametrize("answer", [hang, drip, drip_headers])
def test_a_peer_that_takes_its_time(answer: Answer) -> None:
    """It is left when the time is over, and so is the connection to it."""
    with serving(answer) as server:
        began = time.monotonic()
        [found] = ask({"far": peer(server)}, "flow", patience=PATIENCE)()
        took = time.monotonic() - began
        until(lambda: not asking(), seconds=5)

    assert found.why == "it did not answer in time"
    assert took < 3 * PATIENCE


def test_all_are_asked_at_once() -> None:
    """Three that hang cost as much time as one; who answers is heard."""
    with serving(hang) as slow, serving(ok(told())) as good:
        all_ = {f"slow {n}": peer(slow) for n in range(3)} | {"good": peer(good)}
        began = time.monotonic()
        found = {each.peer: each for each in ask(all_, "flow", patience=PATIENCE)()}
        took = time.monotonic() - began

    assert took < 2 * PATIENCE  # one after the other would take 3
    assert found["good"].half is not None
    assert [name for name, each in found.items() if each.half is None] == list(all_)[:3]


def test_the_questions_to_one_peer_have_a_bound() -> None:
    """Who reloads a page while a peer hangs makes no thread after the other."""
    with serving(hang) as server:
        calls = [
            ask({"far": peer(server)}, "flow", patience=PATIENCE) for _ in range(peers.AT_ONCE + 2)
        ]
        threads = asking()
        found = [told.why for call in calls for told in call()]

    assert len(threads) <= peers.AT_ONCE
    assert found.count("too many questions to it are open already") == 2


def test_nobody_is_there() -> None:
    """A port that is closed, and a name that is none."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    [found] = ask({"far": Peer(URL=f"http://127.0.0.1:{port}/", TOKEN="t")}, "flow")()
    assert "ConnectionRefusedError" in found.why

    [found] = ask({"far": Peer(URL="https://nowhere.invalid/", TOKEN="t")}, "flow")()
    assert found.half is None


def test_no_peers_cost_nothing() -> None:
    """No thread, no time."""
    assert ask({}, "flow")() == []


def test_the_certificate_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an authority that this machine trusts, and for the host that was named."""
    authority = Authority(tmp_path)
    good = authority.issue("DNS:localhost")
    answer = ok(told())
    with serving(answer, good.context()) as server:
        options = peer(server, URL=f"https://localhost:{server.port}/")
        [found] = ask({"far": options}, "flow", patience=5.0)()
        assert found.half is None
        assert "certificate is not to be trusted" in found.why
        assert server.requests == []

        monkeypatch.setenv("SSL_CERT_FILE", str(good.authority))
        [found] = ask({"far": options}, "flow", patience=5.0)()
        assert found.half is not None

    with serving(answer, authority.issue("DNS:other.example").context()) as server:
        options = peer(server, URL=f"https://localhost:{server.port}/")
        [found] = ask({"far": options}, "flow", patience=5.0)()
        assert "certificate is not to be trusted" in found.why
        assert server.requests == []

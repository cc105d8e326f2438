"""A server that is called back: HTTP, or HTTPS with a certificate, in threads of its own."""

import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from tests.kit.services.tls import Certificate

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER_SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
LOCAL = ["127.0.0.0/8"]


@dataclass(frozen=True)
class Called:
    """One POST that came in."""

    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Answering:
    """What the server answers; `before` is called in front of that, `after` behind it."""

    status: int = 204
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    before: Callable[[], object] = lambda: None
    after: Callable[[], object] = lambda: None


class CallbackServer:
    """Listens on 127.0.0.1; keeps what it is sent, and answers as its `answers` say by path."""

    def __init__(self, certificate: Certificate | None = None) -> None:
        self.called: list[Called] = []
        self.connections = 0
        self.answers: dict[str, Answering] = {}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def setup(self) -> None:
                outer.connections += 1
                super().setup()

            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                headers = {name.lower(): value for name, value in self.headers.items()}
                outer.called.append(Called(self.path, headers, self.rfile.read(length)))
                answer = outer.answers.get(self.path.partition("?")[0], Answering())
                answer.before()
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer.body)
                self.wfile.flush()
                answer.after()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        scheme = "http"
        if certificate is not None:
            context = certificate.context()
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
            scheme = "https"
        self.port: int = self._server.server_address[1]
        self.origin = f"{scheme}://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def ids(self) -> list[str]:
        return [each.headers["webhook-id"] for each in self.called]


class Dripping:
    """Accepts connections, takes what comes, and sends a byte of an endless header now and then."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.origin = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        for each in list(self._threads):
            each.join()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                link, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._drip, args=(link,))
            self._threads.append(thread)
            thread.start()

    def _drip(self, link: socket.socket) -> None:
        with link:
            try:
                link.sendall(b"HTTP/1.1 200 OK\r\nX: ")
                while not self._over.is_set():
                    link.sendall(b"x")
                    time.sleep(0.02)
            except OSError:
                return


class Sipping:
    """Accepts connections, with a certificate or without, and reads a little now and then."""

    def __init__(self, certificate: Certificate | None = None) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._context = None if certificate is None else certificate.context()
        self.taken = 0
        scheme = "http" if certificate is None else "https"
        self.origin = f"{scheme}://127.0.0.1:{self._listener.getsockname()[1]}"
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sip)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._listener.close()

    def _sip(self) -> None:
        link, _ = self._listener.accept()
        if self._context is not None:
            link = self._context.wrap_socket(link, server_side=True)
        with link, suppress(OSError):
            while not self._over.is_set() and (data := link.recv(16_384)):
                self.taken += len(data)
                time.sleep(0.005)

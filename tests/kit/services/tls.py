"""Certificates of an authority of our own, and a server in the middle that has them."""

import contextlib
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

_CONFIG = """
[req]
distinguished_name = subject
[subject]
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = CA:FALSE
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = {names}
"""


@dataclass(frozen=True)
class Certificate:
    """A server's certificate, its key, and the certificate of its authority: files."""

    file: Path
    key: Path
    authority: Path

    def context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.file, self.key)
        return context


class Authority:
    """Issues certificates, with the openssl of this machine; without it the test is skipped."""

    def __init__(self, directory: Path) -> None:
        if shutil.which("openssl") is None:
            pytest.skip("there is no openssl, to make certificates")
        self._directory = directory
        self._count = 0
        self.file, self._key = directory / "ca.pem", directory / "ca.key"
        self._request(self.file, self._key, "/CN=authority of the tests", "authority", "-x509")

    def issue(self, *names: str) -> Certificate:
        """Return a certificate for names as in "DNS:localhost" or "IP:127.0.0.1"."""
        self._count += 1
        stem = self._directory / f"server-{self._count}"
        made = Certificate(stem.with_suffix(".pem"), stem.with_suffix(".key"), self.file)
        request = stem.with_suffix(".csr")
        self._request(request, made.key, "/CN=server", "")
        self._run(
            *("x509", "-req", "-in", request, "-CA", self.file, "-CAkey", self._key),
            *("-set_serial", self._count, "-days", "2", "-out", made.file),
            *("-extfile", self._config(names), "-extensions", "server"),
        )
        return made

    def _request(self, out: Path, key: Path, subject: str, section: str, *more: str) -> None:
        extensions = ("-extensions", section, "-days", "2") if section else ()
        self._run(
            *("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-subj", subject, "-keyout", key, "-out", out, "-config", self._config(())),
            *(*extensions, *more),
        )

    def _config(self, names: tuple[str, ...]) -> Path:
        file = self._directory / "openssl.cnf"
        file.write_text(_CONFIG.format(names=",".join(names) or "DNS:nobody"))
        return file

    @staticmethod
    def _run(*arguments: object) -> None:
        subprocess.run(
            ["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=60
        )


@dataclass
class Middle:
    """A server between clients and a broker: passes on what it reads, and keeps what clients say.

    With a certificate it ends their encryption, as somebody in the middle would.
    """

    port: int
    certificate: Certificate | None
    said: bytearray = field(default_factory=bytearray)
    failures: list[str] = field(default_factory=list)
    """What went wrong with handshakes."""
    seen: threading.Event = field(default_factory=threading.Event)
    """Whether anybody has come and gone."""


@contextlib.contextmanager
def in_the_middle(
    broker: int, certificate: Certificate | None = None, *, host: str = "127.0.0.1"
) -> Iterator[Middle]:
    """Listen at a port of `host` for clients of the broker at a port of 127.0.0.1."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as server:
        middle = Middle(server.getsockname()[1], certificate)
        thread = threading.Thread(target=_accept, args=(server, broker, middle))
        thread.start()
        try:
            yield middle
        finally:
            # Closing alone would not wake accept().
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            thread.join()


def _accept(server: socket.socket, broker: int, middle: Middle) -> None:
    with contextlib.ExitStack() as links:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            links.callback(client.close)
            thread = threading.Thread(target=_serve, args=(client, broker, middle), daemon=True)
            thread.start()


def _serve(client: socket.socket, broker: int, middle: Middle) -> None:
    try:
        if middle.certificate is not None:
            client = middle.certificate.context().wrap_socket(client, server_side=True)
        with client, socket.create_connection(("127.0.0.1", broker)) as link:
            back = threading.Thread(target=_pass_on, args=(link, client, bytearray()), daemon=True)
            back.start()
            _pass_on(client, link, middle.said)
            link.shutdown(socket.SHUT_RDWR)
            back.join()
    except OSError as exc:
        middle.failures.append(str(exc))
    finally:
        client.close()
        middle.seen.set()


def _pass_on(source: socket.socket, target: socket.socket, kept: bytearray) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            kept += data
            target.sendall(data)

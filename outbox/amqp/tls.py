"""What an encrypted connection to an AMQP broker checks before it sends a password.

The chain of the server's certificate and its host name, unless a setting says otherwise in words.
py-amqp by itself checks the name only if it is told one.
"""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from socket import socket
from typing import Any

from outbox.conf import parse
from outbox.exceptions import ConfigurationError


class UnusableFile(OSError):
    """A certificate or key that a setting names cannot be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TLSOptions:
    """SSL = {...}.

    ca_certs: a file with the authorities to trust; by default those of the system.
    certfile, keyfile: our own certificate and its key, for brokers that want one.
    check_hostname: whether the certificate must be that of the URL's host.
    server_hostname: the name that must be in the certificate, if it is not the URL's host.
    cert_reqs: ssl.CERT_NONE accepts any certificate of any server.
    ciphers, tls_minimum_version, tls_maximum_version, ssl_version: as Python's ssl module has them.
    """

    ca_certs: str | None = None
    certfile: str | None = None
    keyfile: str | None = None
    check_hostname: bool | None = None
    server_hostname: str | None = None
    cert_reqs: int | None = None
    ciphers: str | None = None
    tls_minimum_version: int | None = None
    tls_maximum_version: int | None = None
    ssl_version: int | None = None

    def __post_init__(self) -> None:
        if self.cert_reqs not in (None, *ssl.VerifyMode):
            raise ConfigurationError(
                "SSL['cert_reqs'] must be ssl.CERT_REQUIRED, or ssl.CERT_NONE to trust any server"
            )
        if self.check_hostname not in (None, True, False):
            raise ConfigurationError("SSL['check_hostname'] must be True or False")
        if self.check_hostname and not self.verifies_chain:
            raise ConfigurationError("SSL['check_hostname'] means nothing with ssl.CERT_NONE")
        for name in ("ca_certs", "certfile", "keyfile", "server_hostname"):
            if not isinstance(getattr(self, name), str | PathLike | None):
                raise ConfigurationError(f"SSL[{name!r}] must be a string")
        try:
            self._empty_context()
        except (TypeError, ValueError, OverflowError, ssl.SSLError) as exc:
            raise ConfigurationError(f"SSL cannot be used: {exc}") from None

    @property
    def verifies_chain(self) -> bool:
        """Whether the certificate must be from an authority that we trust."""
        return self.cert_reqs != ssl.CERT_NONE

    @property
    def verifies_host(self) -> bool:
        """Whether the certificate must be that of the host we mean."""
        return self.verifies_chain and self.check_hostname is not False

    def context(self) -> ssl.SSLContext:
        """Return the context of a connection; raise UnusableFile for what cannot be loaded."""
        made = self._empty_context()
        if self.ca_certs is not None:
            _loading("ca_certs", self.ca_certs, made.load_verify_locations, self.ca_certs)
        elif self.verifies_chain:
            made.load_default_certs()
        if self.certfile is not None:
            _loading("certfile", self.certfile, made.load_cert_chain, self.certfile, self.keyfile)
        return made

    def _empty_context(self) -> ssl.SSLContext:
        made = ssl.SSLContext(self.ssl_version or ssl.PROTOCOL_TLS_CLIENT)
        made.check_hostname = self.verifies_host
        made.verify_mode = ssl.CERT_REQUIRED if self.verifies_chain else ssl.CERT_NONE
        if self.tls_minimum_version is not None:
            made.minimum_version = ssl.TLSVersion(self.tls_minimum_version)
        if self.tls_maximum_version is not None:
            made.maximum_version = ssl.TLSVersion(self.tls_maximum_version)
        if self.ciphers is not None:
            made.set_ciphers(self.ciphers)
        return made

    def wrap(self, sock: socket, host: str) -> ssl.SSLSocket:
        """Return a socket for an encrypted connection to a host, before its handshake."""
        return self.context().wrap_socket(
            sock,
            server_hostname=self.server_hostname or host,
            do_handshake_on_connect=False,
        )


def read(options: Mapping[str, Any] | None) -> TLSOptions:
    """Return the options of a setting, the default ones if it is None.

    Raises ConfigurationError for what cannot be used.
    """
    return parse(TLSOptions, {} if options is None else options, "SSL")


def _loading(name: str, path: str, load: Any, *arguments: Any) -> None:
    try:
        load(*arguments)
    except OSError as exc:  # SSLError is one, and names no file either
        reason = exc.strerror or str(exc) or type(exc).__name__
        raise UnusableFile(f"SSL[{name!r}], {path}, cannot be used: {reason}") from exc

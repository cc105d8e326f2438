"""What a relay's OPTIONS say to an AMQP broker."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from outbox.amqp import tls
from outbox.conf import flaws_in, refuse


@dataclass(frozen=True, slots=True, kw_only=True)
class AMQPOptions:
    """OPTIONS of AMQPBroker. Times are in seconds.

    EXCHANGE: the durable topic exchange that is declared and published to.
    MANDATORY: treat a message that reaches no queue as refused instead of dropped.
    MAX_IN_FLIGHT: how many messages may be unconfirmed at once.
    CONFIRM_TIMEOUT: longest time without any confirm while something is in flight.
    CONNECT_TIMEOUT, SOCKET_TIMEOUT: bounds of connecting, and of one read or write.
    HEARTBEAT: interval in which both sides must show that they are alive.
    SSL: options of TLS, such as {"ca_certs": …, "certfile": …, "keyfile": …}; see outbox.amqp.tls.
        With them amqp:// is encrypted too, as amqps:// always is.
    """

    EXCHANGE: str = "events"
    MANDATORY: bool = True
    MAX_IN_FLIGHT: int = 1000
    CONFIRM_TIMEOUT: float = 30.0
    CONNECT_TIMEOUT: float = 5.0
    SOCKET_TIMEOUT: float = 15.0
    HEARTBEAT: int = 30
    SSL: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        refuse(self._flaws())

    def _flaws(self) -> Iterator[str]:
        if not 1 <= len(self.EXCHANGE.encode()) <= 255:
            yield f"EXCHANGE must have 1 to 255 bytes, not {len(self.EXCHANGE.encode())}"
        for name in ("MAX_IN_FLIGHT", "CONFIRM_TIMEOUT", "CONNECT_TIMEOUT", "SOCKET_TIMEOUT"):
            if not getattr(self, name) > 0:
                yield f"{name} must be positive, not {getattr(self, name)}"
        if not 0 <= self.HEARTBEAT <= 65_535:
            yield f"HEARTBEAT must be 0 (off) to 65535 seconds, not {self.HEARTBEAT}"
        yield from flaws_in(tls.read, self.SSL)

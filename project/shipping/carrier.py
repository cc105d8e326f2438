"""The way to the carrier, who is another company: HTTP, since we share no broker.

A relay of its own has this broker, and no other: what the carrier does not take now waits in the
log, and delays nobody else.
"""

import http.client
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self
from urllib.parse import urlsplit

from outbox.exceptions import ConfigurationError
from outbox.message.cloudevents import to_headers
from outbox.message.envelope import Envelope
from relay.brokers.base import CONFIRMED, SKIPPED, Broker, Outcome, Status, behind

TOLD = "shipping.shipment.dispatched"
"""The events that the carrier is told."""
TIMEOUT = 10.0


class CarrierBroker(Broker):
    """Posts events to the carrier, as CloudEvents in binary mode, one after the other.

    OPTIONS: TOKEN.
    """

    confirms: ClassVar[bool] = True
    ordered: ClassVar[bool] = True
    durable: ClassVar[bool] = True

    def __init__(self, host: str, port: int | None, path: str, token: str) -> None:
        self._host, self._port, self._path, self._token = host, port, path, token
        self._connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT)

    @classmethod
    def from_settings(cls, url: str, options: Mapping[str, Any], *, using: str) -> Self:
        parts = urlsplit(url)
        if parts.scheme != "http" or parts.hostname is None or set(options) != {"TOKEN"}:
            raise ConfigurationError("CarrierBroker wants an http URL and TOKEN in OPTIONS")
        return cls(parts.hostname, parts.port, parts.path, options["TOKEN"])

    @property
    def address(self) -> str:
        return f"http://{self._host}:{self._port}{self._path}"

    def publish(self, page: Sequence[Envelope]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        refused: dict[str, str] = {}
        for message in page:
            if message.type != TOLD:
                outcomes.append(SKIPPED)
            elif message.key in refused:
                outcomes.append(behind(refused[message.key]))
            else:
                outcomes.append(self._post(message))
                if outcomes[-1].status is Status.UNKNOWN:  # it is away for the rest as well
                    return outcomes + outcomes[-1:] * (len(page) - len(outcomes))
                if outcomes[-1] is not CONFIRMED and message.key is not None and self.hold_keys:
                    refused[message.key] = message.id
        return outcomes

    def _post(self, message: Envelope) -> Outcome:
        headers = to_headers(message) | {
            "Content-Type": message.content_type,
            "Authorization": f"Bearer {self._token}",
        }
        try:
            self._connection.request("POST", self._path, message.data, headers)
            response = self._connection.getresponse()
            said = response.read(500).decode(errors="replace")
            response.read()
        except (OSError, http.client.HTTPException) as exc:
            self.close()
            return Outcome(Status.UNKNOWN, f"{type(exc).__name__}: {exc}")
        if response.status == 202:
            return CONFIRMED
        unusable = response.status in (400, 413, 415)
        return Outcome(Status.REFUSED if unusable else Status.UNKNOWN, f"{response.status}: {said}")

    def close(self) -> None:
        self._connection.close()  # the next request connects again

"""What a relay's OPTIONS say to a WebhookBroker."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from outbox.conf import refuse


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookOptions:
    """OPTIONS of WebhookBroker. Times are in seconds.

    TIMEOUT: until when a receiver has to have answered; connecting has at most 5 seconds of it.
    WORKERS: how many callbacks are under way at once, in threads.
    PER_RECEIVER: how many of them to one receiver, which is a scheme, host and port.
    CA_FILE: certificates to trust, in PEM, instead of those of certifi.
    """

    TIMEOUT: float = 15.0
    WORKERS: int = 32
    PER_RECEIVER: int = 4
    CA_FILE: str = ""

    def __post_init__(self) -> None:
        refuse(self._flaws())

    def _flaws(self) -> Iterator[str]:
        if not 0 < self.TIMEOUT <= 120:
            yield f"TIMEOUT must be above 0 and at most 120 seconds, not {self.TIMEOUT}"
        if not 1 <= self.WORKERS <= 1000:
            yield f"WORKERS must be from 1 to 1000, not {self.WORKERS}"
        if not 1 <= self.PER_RECEIVER <= self.WORKERS:
            yield f"PER_RECEIVER must be from 1 to WORKERS, not {self.PER_RECEIVER}"
        if self.CA_FILE and not Path(self.CA_FILE).is_file():
            yield "CA_FILE is no file"

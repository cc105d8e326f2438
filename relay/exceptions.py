"""What stops a relay.

outbox.OutboxError
└── RelayError
    ├── StaleCursor
    ├── MovedDatabase
    ├── UnsoundLog
    ├── BrokerFailed
    └── ReplayHalted
"""

from outbox.exceptions import OutboxError


class RelayError(OutboxError):
    """The relay cannot go on as it is."""


class StaleCursor(RelayError):
    """Another process has extended the chain of checkpoints; this one's page is void."""


class MovedDatabase(RelayError):
    """The log was written in another database cluster, whose transaction ids mean nothing here."""


class UnsoundLog(RelayError):
    """The log cannot be read as it stands: it is being restored, or its positions do not grow."""


class BrokerFailed(RelayError):
    """The broker's adapter raised an error instead of returning outcomes."""


class ReplayHalted(RelayError):
    """The broker did not confirm a message of a replay; `position` is where to go on."""

    def __init__(self, reason: str, position: int) -> None:
        super().__init__(reason)
        self.position = position

"""The port through which messages are published once more, to one group: a relay registers."""

from collections.abc import Collection
from typing import Protocol

from outbox.exceptions import ConfigurationError


class Resending(Protocol):
    """What a relay can say and do about messages by their ids."""

    def unpublished(self, message_ids: Collection[str], *, relay: str, using: str) -> set[str]:
        """Return which of them may be published yet: they are pending or parked.

        Raises ConfigurationError if there is no such relay.
        """
        ...

    def resend(
        self, message_ids: Collection[str], *, topic: str, relay: str, using: str
    ) -> list[str]:
        """Publish messages again, to a topic instead of their own; return which were confirmed.

        With the same ids, in the order of the log. Raises what a replay raises.
        """
        ...


_resending: Resending | None = None


def register_resending(resending: Resending) -> None:
    """Let messages be published again through this."""
    global _resending
    _resending = resending


def resending() -> Resending:
    """Return what publishes messages again; raise ConfigurationError if nothing does."""
    if _resending is None:
        raise ConfigurationError(
            "There is no relay here to publish a message again: add 'relay' to INSTALLED_APPS."
        )
    return _resending


def unpublished(message_ids: Collection[str], *, relay: str, using: str) -> set[str]:
    """Return which of some messages have not been published yet; none where no relay tells."""
    if _resending is None or not message_ids:
        return set()
    return _resending.unpublished(message_ids, relay=relay, using=using)

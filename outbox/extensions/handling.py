"""The port through which messages of this process reach handlers, without a broker.

The inbox registers at it; the kit for testing hands messages to what is registered.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from outbox.exceptions import ConfigurationError
from outbox.message.envelope import Envelope


@dataclass(frozen=True, slots=True, kw_only=True)
class Handled:
    """What became of a message with one handler.

    `state` is that of its receipt: "processed", "retrying", "waiting", "skipped" or "dead"; `error`
    says why, where it is not "processed". `duplicate` if there was a receipt already, so that
    nothing was done. `exc` is what the handler raised, if it did.
    """

    handler: str
    state: str
    error: str = ""
    duplicate: bool = False
    exc: BaseException | None = None


class Handle(Protocol):
    """Hands a message to the handlers that want it, of one group or of all, with receipts.

    In the running transaction, if there is one. A handler that has failed on it before is called
    again. Returns what became of it with each handler, nothing if none wants it. Raises
    UndecodableMessage if there are some and none can use it. `using` is the alias of the database
    that has the receipts, by default as the routers say.
    """

    def __call__(
        self, envelope: Envelope, *, using: str | None, group: str | None
    ) -> Sequence[Handled]: ...


_handle: Handle | None = None


def register_handling(handle: Handle) -> None:
    """Hand messages to a function from now on."""
    global _handle
    _handle = handle


def handling() -> Handle:
    """Return what hands messages to handlers; raise ConfigurationError if nothing does."""
    if _handle is None:
        raise ConfigurationError(
            "There are no handlers without the inbox: add 'inbox' to INSTALLED_APPS, and run "
            "manage.py migrate."
        )
    return _handle

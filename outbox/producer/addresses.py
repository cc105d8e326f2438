"""The port at which whoever consumes says which group takes the replies to what is asked here."""

from collections.abc import Callable

from outbox.exceptions import ConfigurationError
from outbox.message.requests import address_of

_group: Callable[[], str] | None = None


def register_group(group: Callable[[], str]) -> None:
    """Take replies for the group that a function names, from now on."""
    global _group
    _group = group


def own_address() -> str:
    """Return the topic of replies to this service.

    Raises ConfigurationError if nobody takes them.
    """
    if _group is None:
        raise ConfigurationError(
            "There is nobody here to take a reply: add 'inbox' to INSTALLED_APPS, and run "
            "manage.py migrate."
        )
    return address_of(_group())

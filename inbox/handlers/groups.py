"""What consumers need at their start: groups of handlers, and a broker."""

from collections.abc import Sequence

from inbox.conf import broker_url
from inbox.handlers.registry import handlers
from outbox.exceptions import ConfigurationError, UnknownName


def choose_groups(given: Sequence[str] = ()) -> list[str]:
    """Return the groups to consume for: the given ones, each once, or all that there are.

    Raises UnknownName, with those that there are, if there is none of that name.
    """
    known = known_groups()
    for group in given:
        if group not in known:
            raise UnknownName(f"No handlers in group {group!r}. Groups: {', '.join(known)}.")
    return list(dict.fromkeys(given)) or known


def known_groups() -> list[str]:
    """Return the groups of handlers that there are; raise ConfigurationError if there are none."""
    known = sorted(handlers.groups())
    if not known:
        raise ConfigurationError(
            "No handlers are registered. Write one with @inbox.handler(...) in "
            "<app>/handlers.py, and add the app to INSTALLED_APPS."
        )
    return known


def chosen_broker() -> str:
    """Return the URL of the broker; raise ConfigurationError if there is none to consume from."""
    url = broker_url()
    if not url:
        raise ConfigurationError(
            "There is no broker to consume from. The local broker hands messages straight to "
            "the handlers: just run 'manage.py relay'. For RabbitMQ set INBOX['URL'] or a "
            "relay's URL, such as 'amqp://user:password@host:5672//'."
        )
    return url

"""What a consumer needs at its start: a group of handlers, and a broker."""

from inbox.conf import broker_url
from inbox.registry import handlers
from outbox import amqp
from outbox.exceptions import ConfigurationError


def choose_group(given: str | None, how: str = "Choose with --group") -> str:
    """Return the group to consume for: the given one, or the only one there is.

    Raises ConfigurationError, which names those that there are, if that is none or not clear.
    """
    known = known_groups()
    if given is None and len(known) > 1:
        raise ConfigurationError(f"Which group? {how}: {', '.join(known)}.")
    if given is not None and given not in known:
        raise ConfigurationError(f"No handlers in group {given!r}. Groups: {', '.join(known)}.")
    return given or known[0]


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
    amqp.check_url(url)
    return url

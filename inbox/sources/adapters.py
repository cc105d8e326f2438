"""Which adapter reads from which broker: by the scheme of its URL."""

from collections.abc import Mapping

from inbox.conf import InboxSettings
from inbox.sources.amqp.subscription import Subscription
from inbox.sources.base import Source
from outbox.amqp import connection as amqp

ADAPTERS: Mapping[str, type[Source]] = dict.fromkeys(amqp.SCHEMES, Subscription)


def source_of(group: str, *, url: str, conf: InboxSettings) -> Source:
    """Return the source of a group's messages, not yet open.

    Raises ConfigurationError for the URL of no broker that can be consumed from.
    """
    scheme = url.partition("://")[0].strip().lower()
    return ADAPTERS.get(scheme, Subscription)(group, url=url, conf=conf)

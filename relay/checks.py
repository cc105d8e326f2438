"""System checks of the relay."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register

from outbox.amqp import exposure, urls
from outbox.celery import apps_in_use
from outbox.conf import flaws_of
from outbox.exceptions import ConfigurationError
from outbox.message.kinds import KINDS
from outbox.statements.conf import peers
from outbox.webhooks.conf import WHERE, webhook_settings
from relay.brokers.base import EXPOSURE, Broker
from relay.brokers.carriage import carries, stands_apart
from relay.brokers.kombu import AMQP
from relay.brokers.kombu_servers import celery_links
from relay.conf import RelaySettings, broker_class, relay_settings
from relay.resending.turns import asks, resender

MISSING = {
    "confirms": "a message that it has taken may be lost, as it confirms nothing",
    "durable": "what it holds may be lost when it restarts",
    "ordered": "messages of one key may overtake each other",
    "routable_check": "a message that nobody receives is dropped without a word",
}
"""What may happen with a broker that has not this capability."""

PORTS = {"amqp": 5672, "amqps": 5671, "redis": 6379, "rediss": 6379}


@register
def check_relays(**_: Any) -> list[CheckMessage]:
    """E001: RELAYS is not usable. W001: no relay, so nothing is published. Then each broker's.

    And whether what there is to publish can be: E003, W003, E004, E005.
    """
    try:
        relays = relay_settings()
    except ConfigurationError as exc:
        return [
            Error(flaw, hint="See the reference of settings.", id="relay.E001")
            for flaw in flaws_of(exc)
        ]
    if not relays and hasattr(settings, "RELAYS"):
        return []  # said in so many words; the doctor tells if something is emitted all the same
    if not relays:
        return [
            Warning(
                "No relay is configured: events are kept in the outbox and never published.",
                hint=(
                    "Set RELAYS = {'default': {'BACKEND': 'relay.brokers.local.LocalBroker'}}, or "
                    "RELAYS = {} in a service that only consumes."
                ),
                id="relay.W001",
            )
        ]
    messages = _repairs(relays)
    for name, conf in relays.items():
        try:
            broker = broker_class(name)
            messages += broker.check(name, conf.URL, conf.OPTIONS)
            messages += _carries(name, conf.MESSAGES, broker)
        except ConfigurationError as exc:
            messages.append(Error(str(exc), id="relay.E001"))
    return messages + _celery_brokers(relays) + _callbacks(relays)


@register(deploy=True)
def check_deployment(**_: Any) -> list[CheckMessage]:
    """W010: credentials go in the clear. W011: guest. W012: a server's certificate is not checked.

    Of relays, and of the Celery apps that send tasks by themselves as well. W013: what a relay's
    broker does not promise.
    """
    messages: list[CheckMessage] = []
    try:
        relays = relay_settings()
    except ConfigurationError:
        return []  # is E001
    for name, conf in relays.items():
        try:
            broker = broker_class(name)
            messages += broker.check_deployment(name, conf.URL, conf.OPTIONS)
            messages += _promises(name, broker)
        except ConfigurationError:
            continue  # is E001 or E002
    for app in _apps():
        try:
            links = celery_links(apps_in_use.broker_url(app), app.conf.broker_use_ssl)
        except ConfigurationError:
            continue  # is E010
        messages += exposure.warnings(f"Celery app {app.main!r}", links, EXPOSURE)
    return messages


@register
def check_resending(**_: Any) -> list[CheckMessage]:
    """W004: an event type wants to be acknowledged, and no relay can send anything again."""
    try:
        relays = relay_settings()
    except ConfigurationError:
        return []  # is E001
    if not relays or not asks() or resender() is not None:
        return []
    return [
        Warning(
            "An event type wants to be acknowledged, and the broker of no relay can address the "
            "queue of a group: nothing is sent again.",
            hint="Add a relay with AMQPBroker, or LocalBroker without a RECEIVER.",
            id="relay.W004",
        )
    ]


def _promises(name: str, broker: type[Broker]) -> list[CheckMessage]:
    """W013: the capabilities that a broker has not, as what may happen for it."""
    # Where handlers run within publish(), everybody who wants a message gets it.
    given = {"routable_check"} if broker.runs_handlers else set()
    if stands_apart(broker):
        given = {"routable_check", "ordered"}  # each message has an address, and none a key
    missing = [
        text
        for capability, text in MISSING.items()
        if capability not in given and not getattr(broker, capability)
    ]
    if not missing:
        return []
    return [
        Warning(
            f"RELAYS[{name!r}]: {broker.__name__} promises less than the outbox: "
            f"{'; '.join(missing)}.",
            hint="Use relay.brokers.amqp.AMQPBroker where that is not good enough.",
            id="relay.W013",
        )
    ]


def _carries(name: str, messages: str, broker: type[Broker]) -> list[CheckMessage]:
    """E003: what a relay shall publish, its broker cannot carry."""
    if messages == "all" and stands_apart(broker):
        return []
    able = {kind.plural: carries(broker, kind) for kind in KINDS if not kind.apart}
    # LocalBroker with "all" is right where there are no tasks; a task is refused with words.
    wanted = "events" if messages == "all" else messages
    if able[wanted]:
        return []
    can = next((kind for kind, can in able.items() if can), "all")
    return [
        Error(
            f"RELAYS[{name!r}]: {broker.__name__} cannot carry {wanted}.",
            hint=f"Set MESSAGES to {can!r}, or use another BACKEND.",
            id="relay.E003",
        )
    ]


def _callbacks(relays: Mapping[str, RelaySettings]) -> list[CheckMessage]:
    """E004: callbacks can be asked for, and no relay sends them."""
    try:
        if not webhook_settings().SECRETS:
            return []
        if any(broker_class(name).carries_callbacks for name in relays):
            return []
    except ConfigurationError:
        return []  # is E001, here or in the outbox
    return [
        Error(
            f"{WHERE}['SECRETS'] is set, and no relay sends callbacks.",
            hint=(
                "Add a relay: RELAYS['webhooks'] = "
                "{'BACKEND': 'relay.brokers.webhook.WebhookBroker'}, and run it: manage.py relay "
                "--relay webhooks."
            ),
            id="relay.E004",
        )
    ]


def _repairs(relays: Mapping[str, RelaySettings]) -> list[CheckMessage]:
    """E005: no relay that publishes events is what RECONCILE names: nothing was ever missing."""
    try:
        wanted = peers()
    except ConfigurationError:
        return []  # is E011 of the outbox
    able = []
    for name, conf in relays.items():
        with suppress(ConfigurationError):  # is E001
            if conf.MESSAGES != "tasks" and broker_class(name).carries_events:
                able.append(name)
    return [
        Error(
            f"RECONCILE[{group!r}]['RELAY'] is {peer.RELAY!r}, which is no relay that publishes "
            "events: what is missing in that group would be taken for not published yet.",
            hint=f"Relays that do: {', '.join(sorted(able)) or 'none'}.",
            id="relay.E005",
        )
        for group, peer in wanted.items()
        if peer.RELAY not in able
    ]


def _celery_brokers(relays: Mapping[str, RelaySettings]) -> list[CheckMessage]:
    """W003: tasks go into the outbox, and no relay carries them to their app's broker.

    E010: nobody can tell what that broker is.
    """
    reached: set[str] = set()
    for name, conf in relays.items():
        try:
            if conf.MESSAGES != "events" and broker_class(name).carries_tasks:
                reached |= _addresses(conf.URL)
        except ConfigurationError:
            continue  # is E001
    messages: list[CheckMessage] = []
    for app in _apps():
        own = apps_in_use.broker_url(app)
        try:
            wanted = _addresses(own)
        except ConfigurationError as exc:
            # Some transports of kombu have URLs of their own kind.
            if not urls.flaw(own) and own.partition(":")[0].lower() not in (*AMQP, *PORTS):
                continue
            messages.append(
                Error(f"broker_url of the Celery app {app.main!r}: {exc}", id="relay.E010")
            )
            continue
        if not wanted & reached:
            messages.append(
                Warning(
                    f"No relay carries the tasks of the Celery app {app.main!r} to its broker "
                    f"({', '.join(sorted(wanted))}).",
                    hint=(
                        "Give a relay its URL; AMQPBroker and KombuBroker carry tasks, unless "
                        "MESSAGES is 'events'."
                    ),
                    id="relay.W003",
                )
            )
    return messages


def _apps() -> list[Any]:
    return sorted(apps_in_use.apps, key=lambda app: str(app.main))


def _addresses(url: str) -> set[str]:
    """Return which servers and virtual hosts, or databases, a URL names; without credentials."""
    found = set()
    for server in urls.read(url, options=None):
        # What a part means when it is missing, as far as it matters here.
        kind = "amqp" if server.scheme in AMQP and server.scheme != "amqps" else server.scheme
        host = (server.host or "localhost").replace("localhost", "127.0.0.1")
        port = f":{server.port or PORTS[kind]}" if kind in PORTS else ""
        path = server.path.lstrip("/")
        found.add(f"{kind}://{host}{port}/{path if kind != 'redis' else path or 0}")
    return found

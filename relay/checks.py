"""System checks of the relay."""

from collections.abc import Mapping
from typing import Any

from django.core.checks import CheckMessage, Error, Warning, register
from kombu.utils.url import parse_url

from outbox.celery import known
from outbox.exceptions import ConfigurationError
from relay.brokers.base import Broker
from relay.brokers.kombu import AMQP
from relay.conf import RelaySettings, broker_class, relay_settings

PORTS = {"amqp": 5672, "amqps": 5671, "redis": 6379, "rediss": 6379}


@register
def check_relays(**_: Any) -> list[CheckMessage]:
    """E001: RELAYS is not usable. W001: no relay, so nothing is published. Then each broker's.

    And whether what there is to publish can be: E003, W003.
    """
    try:
        relays = relay_settings()
    except ConfigurationError as exc:
        return [Error(str(exc), hint="See the reference of settings.", id="relay.E001")]
    if not relays:
        return [
            Warning(
                "No relay is configured: events are kept in the outbox and never published.",
                hint="Set RELAYS = {'default': {'BACKEND': 'relay.brokers.local.LocalBroker'}}.",
                id="relay.W001",
            )
        ]
    messages: list[CheckMessage] = []
    for name, conf in relays.items():
        try:
            broker = broker_class(name)
            messages += broker.check(name, conf.URL, conf.OPTIONS)
            messages += _carries(name, conf.MESSAGES, broker)
        except ConfigurationError as exc:
            messages.append(Error(str(exc), id="relay.E001"))
    return messages + _celery_brokers(relays)


def _carries(name: str, messages: str, broker: type[Broker]) -> list[CheckMessage]:
    """E003: what a relay shall publish, its broker cannot carry."""
    able = {"events": broker.carries_events, "tasks": broker.carries_tasks}
    # LocalBroker with "all" is right where there are no tasks; a task is refused with words.
    wanted = "events" if messages == "all" else messages
    if able[wanted]:
        return []
    can = next((kind for kind, can in able.items() if can), "events")
    return [
        Error(
            f"RELAYS[{name!r}]: {broker.__name__} cannot carry {wanted}.",
            hint=f"Set MESSAGES to {can!r}, or use another BACKEND.",
            id="relay.E003",
        )
    ]


def _celery_brokers(relays: Mapping[str, RelaySettings]) -> list[CheckMessage]:
    """W003: tasks go into the outbox, and no relay carries them to their app's broker."""
    reached: set[str] = set()
    for name, conf in relays.items():
        try:
            if conf.MESSAGES != "events" and broker_class(name).carries_tasks:
                reached |= _addresses(conf.URL)
        except ConfigurationError:
            continue  # is E001
    messages: list[CheckMessage] = []
    for app in sorted(known.apps, key=lambda app: str(app.main)):
        own = app.conf.broker_write_url or app.conf.broker_url or "amqp://"
        wanted = _addresses(own if isinstance(own, str) else ";".join(own))
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


def _addresses(url: str) -> set[str]:
    """Return which servers and virtual hosts, or databases, a URL names; without credentials."""
    found = set()
    for each in url.split(";"):
        # What a part means when it is missing, as far as it matters here.
        try:
            parts = parse_url(each)
        except ValueError:
            continue  # the broker's own check tells
        kind = parts["transport"] or "amqp"
        kind = "amqp" if kind in AMQP and kind != "amqps" else kind
        host = (parts["hostname"] or "localhost").replace("localhost", "127.0.0.1")
        port = f":{parts['port'] or PORTS[kind]}" if kind in PORTS else ""
        path = (parts["virtual_host"] or "").lstrip("/")
        found.add(f"{kind}://{host}{port}/{path if kind != 'redis' else path or 0}")
    return found

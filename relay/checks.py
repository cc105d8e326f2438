"""System checks of the relay."""

from typing import Any

from django.core.checks import CheckMessage, Error, Warning, register

from outbox.exceptions import ConfigurationError
from relay.conf import broker_class, relay_settings


@register
def check_relays(**_: Any) -> list[CheckMessage]:
    """E001: RELAYS is not usable. W001: no relay, so nothing is published. Then each broker's."""
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
            messages += broker_class(name).check(name, conf.URL, conf.OPTIONS)
        except ConfigurationError as exc:
            messages.append(Error(str(exc), id="relay.E001"))
    return messages

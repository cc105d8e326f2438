"""System checks of the consumer."""

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register

from inbox.conf import InboxSettings
from outbox.conf import parse
from outbox.exceptions import ConfigurationError


@register
def check_settings(**_: Any) -> list[CheckMessage]:
    """E001: INBOX is not as it should be."""
    try:
        parse(InboxSettings, getattr(settings, "INBOX", {}), "INBOX")
    except ConfigurationError as exc:
        return [Error(str(exc), hint="See the reference of settings.", id="inbox.E001")]
    return []

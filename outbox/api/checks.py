"""The system check of the API's settings."""

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register

from outbox.api.conf import APISettings
from outbox.conf import flaws_in, parse


@register
def check_settings(**_: Any) -> list[CheckMessage]:
    """E006: OUTBOX_API is not as it should be."""
    return [
        Error(flaw, hint="See the reference of settings.", id="outbox.E006")
        for flaw in flaws_in(parse, APISettings, getattr(settings, "OUTBOX_API", {}), "OUTBOX_API")
    ]

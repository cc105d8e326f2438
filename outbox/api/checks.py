"""The system checks of the API's settings, and of views that ask."""

from importlib.util import find_spec
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register

from outbox.api.conf import APISettings
from outbox.conf import flaws_in, parse


@register
def check_settings(**_: Any) -> list[CheckMessage]:
    """E006: OUTBOX_API is not as it should be."""
    return [
        Error(flaw, hint="See the reference of settings.", id="outbox.E006")
        for flaw in flaws_in(parse, APISettings, getattr(settings, "OUTBOX_API", {}), "OUTBOX_API")
    ]


@register(Tags.urls)
def check_accepted(**_: Any) -> list[CheckMessage]:
    """E013: a view that asks over HTTP is not as it should be."""
    if find_spec("rest_framework") is None:
        return []
    from outbox.api.accepted_checks import check_views  # noqa: PLC0415 - needs DRF, and the apps

    return check_views()

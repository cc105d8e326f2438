"""The system checks of the API's settings, and of views that ask."""

import sys
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register
from django.urls import get_resolver

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
    if not getattr(settings, "ROOT_URLCONF", None):
        return []
    get_resolver().url_patterns  # noqa: B018 - to import the views
    if "outbox.api.accepted" not in sys.modules:
        return []  # there is no such view, and perhaps no DRF
    from outbox.api.accepted_checks import check_views  # noqa: PLC0415 - needs DRF, and the apps

    return check_views()

"""System checks of the consumer."""

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register

from inbox.conf import InboxSettings, as_timedelta, inbox_settings
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


@register
def check_retention(**_: Any) -> list[CheckMessage]:
    """W001: receipts are forgotten before messages are that can come again."""
    # As plain setting: what OUTBOX means by default is its own affair.
    outbox = getattr(settings, "OUTBOX", {})
    if not isinstance(outbox, Mapping) or "RETENTION" not in outbox or check_settings():
        return []
    window, comes_back = inbox_settings().retention, outbox["RETENTION"]
    if window is None or (comes_back is not None and as_timedelta(comes_back) <= window):
        return []
    kept = "for ever" if comes_back is None else f"for {as_timedelta(comes_back)}"
    return [
        Warning(
            f"INBOX['RETENTION'] is {window}, but the outbox keeps messages {kept} "
            "(OUTBOX['RETENTION']): one that is replayed later than that is handled twice.",
            hint="Keep receipts at least as long as any outbox that is heard here keeps messages.",
            id="inbox.W001",
        )
    ]

"""What a broker has said of a parked message, without secrets."""

from outbox.conf import outbox_settings
from outbox.error_text import masked
from relay.models import Parked


def error_of(parked: Parked) -> str:
    """Return the error of a parked message, with what OUTBOX["REDACT"] names blanked out."""
    return masked(parked.error, tuple(outbox_settings().REDACT))

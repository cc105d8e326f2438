"""What a receipt keeps of errors and pages show, without the secrets OUTBOX["REDACT"] names."""

from outbox import error_text
from outbox.conf import outbox_settings


def masked(text: str) -> str:
    """Return what an error says without secrets; what is masked stays as it is."""
    return error_text.masked(text, tuple(outbox_settings().REDACT))

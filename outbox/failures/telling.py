"""A group of failures as data, for programs: the same by the API and by manage.py failures."""

from typing import Any

from outbox.conf import outbox_settings
from outbox.error_text import masked
from outbox.failures.grouping import Group
from outbox.models import FailureNote


def said(group: Group) -> str:
    """Return what the errors of a group have in common, without secrets."""
    return masked(group.message, tuple(outbox_settings().REDACT))


def as_data(group: Group, note: FailureNote | None) -> dict[str, Any]:
    """Return a group as plain data, with datetimes."""
    return {
        "fingerprint": group.fingerprint,
        "by": group.newest.by,
        "error_class": group.newest.error_class,
        "text": said(group),
        "frame": None if group.frame is None else str(group.frame),
        "count": group.count,
        "estimated": group.estimated,
        "states": dict(sorted(group.states.items())),
        "first": group.first,
        "last": group.last,
        "newest": group.newest.number,
        "note": None if note is None else note.text,
    }

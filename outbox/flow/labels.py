"""Times and names in a text or a picture; names of other services are shown and never obeyed."""

from datetime import datetime

from django.utils import timezone


def when(moment: datetime) -> str:
    """Return a point in time in the current zone, to the second."""
    return timezone.localtime(moment).strftime("%Y-%m-%d %H:%M:%S")


def printable(value: str) -> str:
    """Return a text without what a terminal would obey."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in value)


def entities(value: str) -> str:
    """Return a text that Mermaid cannot take for syntax, by its entity codes."""
    return "".join(
        each if each.isalnum() or each in " ._-/():" else f"#{ord(each)};"
        for each in " ".join(value.split())
    )

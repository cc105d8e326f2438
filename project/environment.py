"""Read settings from environment variables."""

import os

from django.core.exceptions import ImproperlyConfigured

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})


def flag(name: str, *, default: bool) -> bool:
    """Return the truth value of the variable; an unset or empty one has the default."""
    value = os.environ.get(name, "").strip().lower()
    if not value:
        return default
    if value in _TRUE | _FALSE:
        return value in _TRUE
    raise ImproperlyConfigured(f"{name}={value!r} is neither true nor false: set it to 1 or 0.")


def pairs(name: str) -> dict[str, str]:
    """Return the comma-separated items of the variable, which are name=value, as a dict."""
    found = (item.partition("=") for item in names(name))
    return {left.strip(): right.strip() for left, _, right in found}


def names(name: str) -> list[str]:
    """Return the comma-separated items of the variable."""
    return [item.strip() for item in os.environ.get(name, "").split(",") if item.strip()]

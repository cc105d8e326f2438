"""The settings of the HTTP API."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from django.conf import settings
from django.core.signals import setting_changed
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.module_loading import import_string

from outbox.conf import parse, refuse
from outbox.exceptions import ConfigurationError

Scope = Callable[[HttpRequest, QuerySet[Any]], QuerySet[Any]]
"""Returns those rows that a request may see and act on; the queryset itself for all of them."""

_RATE = re.compile(r"[1-9][0-9]{0,8}/(s|m|h|d)[a-z]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class APISettings:
    """OUTBOX_API = {...}.

    SCOPE: the dotted path of a function that gets a request and a queryset of any model of ours
        and returns the part that the request may see; the very same queryset if that is all of it.
        Without one, permissions alone decide.
    READ_RATE, ACT_RATE: how many requests a user may make that read, and that change something:
        "600/min"; "" for no limit.
    """

    SCOPE: str = ""
    READ_RATE: str = "600/min"
    ACT_RATE: str = "120/min"

    def __post_init__(self) -> None:
        refuse(self._flaws())

    def _flaws(self) -> Iterator[str]:
        for name in ("READ_RATE", "ACT_RATE"):
            rate = getattr(self, name)
            if rate and not _RATE.fullmatch(rate):
                yield (
                    f"OUTBOX_API[{name!r}] must be a number and a period, such as '600/min', or "
                    f"'' for no limit, not {rate!r}"
                )
        if self.SCOPE:
            try:
                found = import_string(self.SCOPE)
            except ImportError as exc:
                yield f"OUTBOX_API['SCOPE'] cannot be imported: {exc}"
            else:
                if not callable(found):
                    yield f"OUTBOX_API['SCOPE'] must name a function, and {self.SCOPE!r} is none"


@cache
def api_settings() -> APISettings:
    """Return OUTBOX_API as it is now."""
    return parse(APISettings, getattr(settings, "OUTBOX_API", {}), "OUTBOX_API")


@cache
def scope() -> Scope | None:
    """Return the function that says what a request may see; None if permissions alone do."""
    path = api_settings().SCOPE
    if not path:
        return None
    found = import_string(path)
    if not callable(found):
        raise ConfigurationError(f"OUTBOX_API['SCOPE'] must name a function, and {path!r} is none")
    return found  # type: ignore[no-any-return]


def _forget(*, setting: str, **_: Any) -> None:
    if setting == "OUTBOX_API":
        api_settings.cache_clear()
        scope.cache_clear()


setting_changed.connect(_forget)

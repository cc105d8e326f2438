"""Settings as typed classes, read live, so that override_settings just works."""

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import cache
from typing import Any, Literal, TypeVar, get_type_hints

from django.conf import settings
from django.core.signals import setting_changed

from outbox.exceptions import ConfigurationError
from outbox.wire import MAX_ATTRIBUTE, flaw, is_uri_reference

T = TypeVar("T")

MAX_RETENTION_DAYS = 365_000


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class OutboxSettings:
    """OUTBOX = {...}.

    SOURCE: the CloudEvents source of everything emitted here, a URI reference that no other
        service uses; by default "/" and the name of the project's package.
    LANES: how many slices the log has, which is how many relays can work at once. Drain the log
        before changing it: a key that moves to another lane could overtake itself.
    MAX_DATA_BYTES: the largest encoded event that emit() accepts, in bytes.
    NOTIFY: wake the relay after each commit (PostgreSQL); without it the relay only polls.
    RETENTION: how long published messages and old checkpoints are kept, a timedelta or a number of
        days; None for ever.
    REDACT: parts of JSON keys, in any case, whose values the admin does not show.
    CELERY_OUTSIDE: what tasks of OutboxTask and OutboxCelery do outside a transaction: "direct" to
        Celery's broker, "error", or "own", into the outbox in a transaction of their own.
    """

    SOURCE: str = ""
    LANES: int = 4
    MAX_DATA_BYTES: int = 1024 * 1024
    NOTIFY: bool = True
    RETENTION: timedelta | float | None = timedelta(days=7)
    REDACT: Sequence[str] = ("password", "token", "secret", "authorization", "card", "iban")
    CELERY_OUTSIDE: Literal["direct", "error", "own"] = "direct"

    def __post_init__(self) -> None:
        if not 1 <= self.LANES <= 1024:
            raise ConfigurationError(f"OUTBOX['LANES'] must be from 1 to 1024, not {self.LANES}")
        if self.MAX_DATA_BYTES < 1:
            raise ConfigurationError("OUTBOX['MAX_DATA_BYTES'] must be positive")
        if problem := flaw(self.SOURCE, MAX_ATTRIBUTE):
            raise ConfigurationError(f"OUTBOX['SOURCE'] {problem}")
        if not is_uri_reference(self.SOURCE):
            raise ConfigurationError(
                f"OUTBOX['SOURCE'] must be a URI reference, such as '/shop', 'urn:shop' or "
                f"'https://example.com/shop', not {self.SOURCE!r}. Write spaces and letters beyond "
                "ASCII percent-encoded."
            )
        if not _is_retention(self.RETENTION):
            raise ConfigurationError(
                "OUTBOX['RETENTION'] must be a positive timedelta or number of days, or None to "
                f"keep everything, not {self.RETENTION!r}"
            )
        if not isinstance(self.REDACT, list | tuple) or not all(
            isinstance(word, str) and word for word in self.REDACT
        ):
            raise ConfigurationError("OUTBOX['REDACT'] must be a tuple or list of words")
        if self.CELERY_OUTSIDE not in ("direct", "error", "own"):
            raise ConfigurationError(
                "OUTBOX['CELERY_OUTSIDE'] must be 'direct', 'error' or 'own', not "
                f"{self.CELERY_OUTSIDE!r}"
            )

    @property
    def source(self) -> str:
        return self.SOURCE or f"/{project_name()}"

    @property
    def retention(self) -> timedelta | None:
        """How long to keep what is done with; None for ever."""
        kept = self.RETENTION
        return kept if kept is None or isinstance(kept, timedelta) else timedelta(days=kept)


def _is_retention(value: object) -> bool:
    if value is None:
        return True
    if isinstance(value, timedelta):
        return value > timedelta(0)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and 0 < value <= MAX_RETENTION_DAYS  # type: ignore[operator]  # also refuses NaN


def project_name() -> str:
    """Return the name of the Django project's package, the fallback for names of the service."""
    urlconf: str | None = getattr(settings, "ROOT_URLCONF", None)
    return (urlconf or "django").partition(".")[0]


def parse(cls: type[T], raw: object, where: str) -> T:
    """Build the settings class `cls` from the mapping `raw`; `where` names it in errors.

    Raises ConfigurationError for anything but a mapping, an unknown key, or a wrong type.
    """
    if not isinstance(raw, Mapping):
        raise ConfigurationError(f"{where} must be a dict, not {type(raw).__name__}")
    hints = get_type_hints(cls)
    known = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(str(key) for key in raw if key not in known)
    if unknown:
        raise ConfigurationError(
            f"{where} has unknown keys: {', '.join(unknown)}. Known: {', '.join(sorted(known))}."
        )
    for name, value in raw.items():
        if not _fits(value, hints[name]):
            raise ConfigurationError(
                f"{where}[{name!r}] must be {_words(hints[name])}, not {type(value).__name__}"
            )
    return cls(**raw)


def _fits(value: object, hint: Any) -> bool:
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if isinstance(hint, type):
        return isinstance(value, hint)
    return True  # Containers and literals are checked by the class that owns them.


def _words(hint: Any) -> str:
    return {bool: "True or False", int: "a whole number", float: "a number", str: "a string"}.get(
        hint, getattr(hint, "__name__", str(hint))
    )


@cache
def outbox_settings() -> OutboxSettings:
    """Return OUTBOX as it is now."""
    return parse(OutboxSettings, getattr(settings, "OUTBOX", {}), "OUTBOX")


def _forget(*, setting: str, **_: Any) -> None:
    if setting in {"OUTBOX", "ROOT_URLCONF"}:
        outbox_settings.cache_clear()


setting_changed.connect(_forget)

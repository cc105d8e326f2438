"""Settings as typed classes, read live, so that override_settings just works."""

import dataclasses
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from functools import cache
from typing import Any, Literal, TypeVar, get_type_hints

from django.conf import ENVIRONMENT_VARIABLE, settings
from django.core.signals import setting_changed

from outbox.exceptions import ConfigurationError, UnusableSettings
from outbox.message.cloudevents import MAX_ATTRIBUTE, flaw, is_uri_reference

T = TypeVar("T")

METRICS = ("prometheus", "opentelemetry")
"""What can be in OUTBOX["METRICS"]."""

MAX_RETENTION_DAYS = 365_000

# Servers leave out headers with an underscore, which the environment could not tell from "-".
_HEADER = re.compile(r"[A-Za-z0-9-]{0,100}")


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
    CORRELATION_HEADER: the header by which CorrelationMiddleware is told the flow that a request
        belongs to, and tells it in the response; "" for none.
    ORIGIN: whether each message says what code it is that emits it, in the attribute `origin`.
    TRACING: whether there are spans of OpenTelemetry: "off"; "link", each handler in a trace of its
        own that is linked to where its message comes from; or "parent", in the trace of that where
        it is handled within a minute.
    CELERY_OUTSIDE: what tasks of OutboxTask and OutboxCelery do outside a transaction: "direct" to
        Celery's broker, "error", or "own", into the outbox in a transaction of their own.
    METRICS: who exports what processes count: any of "prometheus" and "opentelemetry".
    WEBHOOKS: how the settlement of a request is POSTed to a URL, a dict; see WebhookSettings.
    """

    SOURCE: str = ""
    LANES: int = 4
    MAX_DATA_BYTES: int = 1024 * 1024
    NOTIFY: bool = True
    RETENTION: timedelta | float | None = timedelta(days=7)
    REDACT: Sequence[str] = ("password", "token", "secret", "authorization", "card", "iban")
    CORRELATION_HEADER: str = "X-Request-ID"
    ORIGIN: bool = True
    TRACING: Literal["off", "link", "parent"] = "off"
    CELERY_OUTSIDE: Literal["direct", "error", "own"] = "direct"
    METRICS: Sequence[str] = ()
    WEBHOOKS: Mapping[str, Any] = dataclasses.field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        refuse(self._flaws())

    def _flaws(self) -> Iterator[str]:
        if not 1 <= self.LANES <= 1024:
            yield f"OUTBOX['LANES'] must be from 1 to 1024, not {self.LANES}"
        if self.MAX_DATA_BYTES < 1:
            yield f"OUTBOX['MAX_DATA_BYTES'] must be positive, not {self.MAX_DATA_BYTES}"
        if problem := flaw(self.SOURCE, MAX_ATTRIBUTE):
            yield f"OUTBOX['SOURCE'] {problem}"
        elif not is_uri_reference(self.SOURCE):
            yield (
                f"OUTBOX['SOURCE'] must be a URI reference, such as '/shop', 'urn:shop' or "
                f"'https://example.com/shop', not {self.SOURCE!r}. Write spaces and letters beyond "
                "ASCII percent-encoded."
            )
        if not _is_retention(self.RETENTION):
            yield (
                "OUTBOX['RETENTION'] must be a positive timedelta or number of days, or None to "
                f"keep everything, not {self.RETENTION!r}"
            )
        if not isinstance(self.REDACT, list | tuple) or not all(
            isinstance(word, str) and word for word in self.REDACT
        ):
            yield "OUTBOX['REDACT'] must be a tuple or list of words"
        if not _HEADER.fullmatch(self.CORRELATION_HEADER):
            yield (
                "OUTBOX['CORRELATION_HEADER'] must be the name of a header, of letters, digits and "
                f"'-', or '' for none, not {self.CORRELATION_HEADER!r}"
            )
        if self.TRACING not in ("off", "link", "parent"):
            yield f"OUTBOX['TRACING'] must be 'off', 'link' or 'parent', not {self.TRACING!r}"
        if self.CELERY_OUTSIDE not in ("direct", "error", "own"):
            yield (
                "OUTBOX['CELERY_OUTSIDE'] must be 'direct', 'error' or 'own', not "
                f"{self.CELERY_OUTSIDE!r}"
            )
        if not isinstance(self.METRICS, list | tuple) or not all(
            each in METRICS for each in self.METRICS
        ):
            yield (
                "OUTBOX['METRICS'] must be a tuple or list of 'prometheus' and 'opentelemetry', "
                f"not {self.METRICS!r:.60}"
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

    Raises UnusableSettings with all that is wrong.
    """
    if not isinstance(raw, Mapping):
        raise ConfigurationError(f"{where} must be a dict, not {type(raw).__name__}")
    hints = get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(str(key) for key in raw if key not in fields)
    flaws = []
    if unknown:
        flaws.append(
            f"{where} has unknown keys: {', '.join(unknown)}. Known: {', '.join(sorted(fields))}."
        )
    wrong = [name for name in raw if name in fields and not _fits(raw[name], hints[name])]
    flaws += [
        f"{where}[{name!r}] must be {_words(hints[name])}, "
        f"not {type(raw[name]).__name__}{_shown(raw[name], fields[name])}"
        for name in wrong
    ]
    # What is of a wrong type is told; its default stands in while the rest is looked at.
    fitting = {name: raw[name] for name in raw if name in fields and name not in wrong}
    made, others = _made(cls, fitting | {name: hints[name]() for name in _needed(fields, wrong)})
    refuse([*flaws, *others])
    assert made is not None
    return made


def refuse(flaws: Iterable[str]) -> None:
    """Raise UnusableSettings if there are flaws."""
    if found := list(flaws):
        raise UnusableSettings(*found)


def flaws_of(exc: ConfigurationError) -> tuple[str, ...]:
    """Return what is wrong, one text for each thing."""
    return exc.flaws if isinstance(exc, UnusableSettings) else (str(exc),)


def flaws_in(read: Callable[..., object], *arguments: object) -> tuple[str, ...]:
    """Return what is wrong with settings, as the function says that reads them."""
    try:
        read(*arguments)
    except ConfigurationError as exc:
        return flaws_of(exc)
    return ()


def _made(cls: type[T], values: Mapping[str, object]) -> tuple[T | None, tuple[str, ...]]:
    try:
        return cls(**values), ()
    except ConfigurationError as exc:
        return None, flaws_of(exc)


def _needed(fields: Mapping[str, dataclasses.Field[Any]], names: Iterable[str]) -> list[str]:
    """Return which of the fields have no default."""
    missing = dataclasses.MISSING
    return [
        name
        for name in names
        if fields[name].default is missing and fields[name].default_factory is missing
    ]


def _shown(value: object, field: dataclasses.Field[Any]) -> str:
    """Return a value as an error shows it: nothing that could hold a secret."""
    if not field.repr or not isinstance(value, str | int | float) or "://" in str(value):
        return ""
    return f": {value!r:.60}"


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


def has_settings() -> bool:
    """Tell whether there are settings at all: a plain script that sends a task may have none."""
    return settings.configured or bool(os.environ.get(ENVIRONMENT_VARIABLE))


@cache
def outbox_settings() -> OutboxSettings:
    """Return OUTBOX as it is now."""
    return parse(OutboxSettings, getattr(settings, "OUTBOX", {}), "OUTBOX")


def _forget(*, setting: str, **_: Any) -> None:
    if setting in {"OUTBOX", "ROOT_URLCONF"}:
        outbox_settings.cache_clear()


setting_changed.connect(_forget)

"""RELAYS: named readers of the log, each with one broker behind it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

from django.conf import settings
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from outbox.conf import flaws_in, parse, refuse
from outbox.exceptions import ConfigurationError, UnknownName
from outbox.runtime.backoff import Backoff
from relay.brokers.base import Broker
from relay.judgement import Patience

DEFAULT_RELAY = "default"
MAX_RELAY_NAME = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class RelaySettings:
    """RELAYS = {"default": {...}}.

    BACKEND: dotted path of a Broker class.
    URL: where the broker is; credentials in it are never logged.
    OPTIONS: options of that class.
    MESSAGES: what it publishes: "all", "events" or "tasks" (of Celery); the rest counts as done.
    START: where a relay without any checkpoint begins, "beginning" of what the log holds or "now".
    PAGE_SIZE: messages published between two checkpoints; 0 leaves it to the broker.
    PAGE_BYTES: most bytes of data in a page; a message that is larger makes a page of its own.
    POLL_INTERVAL: longest pause, in seconds, between two looks at an idle log.
    LISTEN: be woken by NOTIFY; turn off behind a transaction-pooling proxy.
    RETRY_MAX: longest pause, in seconds, while the broker or the database is away.
    HOLD_KEYS: what is behind a parked message of its key waits; off, it overtakes it.
    PARK_ATTEMPTS: refusals after which a parked message is dead, and waits for a person.
    PARK_MIN, PARK_MAX: bounds of the growing pause before a parked message is tried again.
    PRUNE_INTERVAL: seconds between two rounds of deleting what OUTBOX["RETENTION"] no longer
        keeps; 0 leaves that to the command outbox_prune.
    """

    BACKEND: str
    URL: str = field(default="", repr=False)
    OPTIONS: Mapping[str, Any] = field(default_factory=dict, repr=False)
    MESSAGES: Literal["all", "events", "tasks"] = "all"
    START: Literal["beginning", "now"] = "beginning"
    PAGE_SIZE: int = 0
    PAGE_BYTES: int = 16 * 1024 * 1024
    POLL_INTERVAL: float = 1.0
    LISTEN: bool = True
    RETRY_MAX: float = 30.0
    HOLD_KEYS: bool = True
    PARK_ATTEMPTS: int = 300
    PARK_MIN: float = 1.0
    PARK_MAX: float = 300.0
    PRUNE_INTERVAL: float = 60.0

    def __post_init__(self) -> None:
        refuse(self._flaws())

    def _flaws(self) -> Iterator[str]:
        if self.MESSAGES not in ("all", "events", "tasks"):
            yield f"MESSAGES must be 'all', 'events' or 'tasks', not {self.MESSAGES!r}"
        if self.START not in ("beginning", "now"):
            yield f"START must be 'beginning' or 'now', not {self.START!r}"
        if not 0 <= self.PAGE_SIZE <= 100_000:
            yield f"PAGE_SIZE must be from 0 to 100000, not {self.PAGE_SIZE}"
        if self.PAGE_BYTES < 1:
            yield f"PAGE_BYTES must be positive, not {self.PAGE_BYTES}"
        if not 0.005 <= self.POLL_INTERVAL <= 3600:
            yield f"POLL_INTERVAL must be from 0.005 to 3600 seconds, not {self.POLL_INTERVAL}"
        if not 0.1 <= self.RETRY_MAX <= 3600:
            yield f"RETRY_MAX must be from 0.1 to 3600 seconds, not {self.RETRY_MAX}"
        if self.PARK_ATTEMPTS < 1:
            yield f"PARK_ATTEMPTS must be at least 1, not {self.PARK_ATTEMPTS}"
        if not 0 < self.PARK_MIN <= self.PARK_MAX:
            yield (
                f"0 < PARK_MIN <= PARK_MAX must hold, not of {self.PARK_MIN} and {self.PARK_MAX}"
            )
        if self.PRUNE_INTERVAL and not 0.1 <= self.PRUNE_INTERVAL <= 86_400:
            yield (
                "PRUNE_INTERVAL must be 0 (off) or from 0.1 to 86400 seconds, not "
                f"{self.PRUNE_INTERVAL}"
            )
        if not isinstance(self.OPTIONS, Mapping):
            yield f"OPTIONS must be a dict, not {type(self.OPTIONS).__name__}"

    @property
    def backoff(self) -> Backoff:
        return Backoff(base=min(0.1, self.RETRY_MAX), cap=self.RETRY_MAX)

    @property
    def patience(self) -> Patience:
        return Patience(self.PARK_ATTEMPTS, Backoff(base=self.PARK_MIN, cap=self.PARK_MAX))


@cache
def relay_settings() -> dict[str, RelaySettings]:
    """Return RELAYS as it is now, by name; raise ConfigurationError if it is not usable."""
    raw = getattr(settings, "RELAYS", {})
    if not isinstance(raw, Mapping):
        raise ConfigurationError(f"RELAYS must be a dict, not {type(raw).__name__}")
    refuse(flaw for name, options in raw.items() for flaw in flaws_in(_read, name, options))
    return {name: _read(name, options) for name, options in raw.items()}


def _read(name: object, options: object) -> RelaySettings:
    where = f"RELAYS[{name!r}]"
    if not isinstance(name, str) or not 1 <= len(name) <= MAX_RELAY_NAME:
        raise ConfigurationError(f"{where}: a name has 1 to {MAX_RELAY_NAME} characters")
    flaws: tuple[str, ...] = ()
    if isinstance(options, Mapping) and "BACKEND" not in options:
        flaws = (f"{where} needs a BACKEND, the path of a Broker class",)
        options = {**options, "BACKEND": ""}
    flaws += flaws_in(parse, RelaySettings, options, where)
    refuse(flaw if flaw.startswith(where) else f"{where}: {flaw}" for flaw in flaws)
    return parse(RelaySettings, options, where)


def get_relay_settings(name: str) -> RelaySettings:
    """Return the settings of one relay; raise UnknownName if there is none."""
    relays = relay_settings()
    if name not in relays:
        known = ", ".join(sorted(relays)) or "none"
        raise UnknownName(f"No relay {name!r} in RELAYS. Configured: {known}.")
    return relays[name]


def create_broker(name: str, *, using: str) -> Broker:
    """Return a new broker of the relay `name`, not connected yet."""
    conf = get_relay_settings(name)
    broker = broker_class(name).from_settings(conf.URL, conf.OPTIONS, using=using)
    broker.hold_keys = conf.HOLD_KEYS
    broker.messages = conf.MESSAGES
    return broker


def broker_class(name: str) -> type[Broker]:
    """Return the Broker class of the relay `name`; raise ConfigurationError if it is none."""
    path = get_relay_settings(name).BACKEND
    try:
        found = import_string(path)
    except ImportError as exc:
        raise ConfigurationError(f"RELAYS[{name!r}]['BACKEND']: {exc}") from exc
    if not (isinstance(found, type) and issubclass(found, Broker)):
        raise ConfigurationError(f"RELAYS[{name!r}]['BACKEND']: {path} is not a Broker class")
    return found


def _forget(*, setting: str, **_: Any) -> None:
    if setting == "RELAYS":
        relay_settings.cache_clear()


setting_changed.connect(_forget)

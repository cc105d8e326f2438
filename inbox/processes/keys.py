"""To which instance a message belongs: by a field, its key, an alias, or by what it answers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from outbox.error_text import name_of
from outbox.exceptions import ConfigurationError, UndecodableMessage
from outbox.interrupts import is_interrupt
from outbox.message.envelope import Envelope
from outbox.message.process_messages import parts_of

MAX_KEY = 200
"""Characters in a key of an instance."""


class _MessageKey:
    """Stands for the key of the message itself."""

    def __repr__(self) -> str:
        return "MESSAGE_KEY"


MESSAGE_KEY: Final = _MessageKey()

KeyOption = str | Callable[[Any], object] | _MessageKey | None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySource:
    """Where the key of an instance is found in a message.

    `key` is the name of a field, a function of the event, MESSAGE_KEY, or None for the message's
    key or else what its `processid` says. `alias` names the keys among which it is one, "" those
    by which instances are made.
    """

    key: KeyOption = None
    alias: str = ""

    def of(self, process: str, event: Any, envelope: Envelope) -> str:
        """Return the key; raise UndecodableMessage if the message has none."""
        if self.key is None:
            found: object = envelope.key
            if found is None:
                found = _continued(process, envelope)
        elif isinstance(self.key, _MessageKey):
            found = envelope.key
        else:
            found = self._read(event)
        return key_text(found, of=f"process {process}")

    def _read(self, event: Any) -> object:
        try:
            if callable(self.key):
                return self.key(event)
            if isinstance(event, Mapping):
                return event[self.key]
            return getattr(event, str(self.key))
        except BaseException as exc:
            if is_interrupt(exc) or isinstance(exc, MemoryError):
                raise
            raise UndecodableMessage(f"its key cannot be read: {name_of(exc)}") from exc


def _continued(process: str, envelope: Envelope) -> str | None:
    """Return the key of the instance that a message continues, if it is one of this process."""
    name, key = parts_of(envelope.attributes)
    return key if name == process else None


def key_text(value: object, *, of: str) -> str:
    """Return a key as text; raise UndecodableMessage for what can be none."""
    if type(value) is int or isinstance(value, UUID):
        value = str(value)
    if not isinstance(value, str) or not value:
        raise UndecodableMessage(
            f"it has no key for {of}: a key is a text, a whole number or a UUID, not "
            f"{'nothing' if value in (None, '') else name_of(value)}"
        )
    text = str(value)
    if len(text) > MAX_KEY or not text.isprintable():
        raise UndecodableMessage(f"its key for {of} is not 1 to {MAX_KEY} printable characters")
    return text


def check_key(owner: str, key: object) -> None:
    """Raise ConfigurationError for what does not say where a key is."""
    if key is None or isinstance(key, str | _MessageKey) or callable(key):
        return
    raise ConfigurationError(
        f"{owner}: key is the name of a field, a function of the event or MESSAGE_KEY, not {key!r}"
    )

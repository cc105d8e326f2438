"""RECONCILE = {...}: the groups whose receipts are compared with our messages."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any, Literal

from django.conf import settings
from django.core.signals import setting_changed

from outbox.conf import flaws_in, parse, refuse
from outbox.message.patterns import is_pattern
from outbox.statement_models import MAX_GROUP
from outbox.statements.buckets import is_bucket

_MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerSettings:
    """RECONCILE[group] = {...}.

    TYPES: event types and patterns of them; of these the group's receipts are compared.
    EVERY: how far apart the rounds are, a timedelta.
    VIA: how the group is asked; "messages": by messages to its queue.
    GRACE: how old a bucket is at least when it is stated, so that its messages have arrived.
    BUCKET: how wide buckets are: whole seconds of which an hour is made.
    RELAY: the relay that publishes for the group; it repairs what is missing there.
    """

    TYPES: Sequence[str] = ("#",)
    EVERY: timedelta = timedelta(minutes=5)
    VIA: Literal["messages"] = "messages"
    GRACE: timedelta = timedelta(minutes=2)
    BUCKET: timedelta = timedelta(minutes=1)
    RELAY: str = "default"

    def __post_init__(self) -> None:
        refuse(self._flaws())

    def _flaws(self) -> Iterator[str]:
        kinds = self.TYPES
        if not isinstance(kinds, list | tuple) or not kinds:
            yield "TYPES must be a list of event types and patterns of them"
        else:
            for each in kinds:
                if not isinstance(each, str) or not is_pattern(each):
                    yield f"TYPES: {each!r:.60} is no event type and no pattern of them"
        if not timedelta(seconds=1) <= self.EVERY <= timedelta(days=1):
            yield f"EVERY must be from a second to a day, not {self.EVERY}"
        if self.VIA != "messages":
            yield f"VIA must be 'messages', not {self.VIA!r:.60}"
        if not timedelta(0) <= self.GRACE <= timedelta(days=1):
            yield f"GRACE must be from nothing to a day, not {self.GRACE}"
        if not is_bucket(self.bucket):
            yield f"BUCKET must be whole seconds of which an hour is made, not {self.BUCKET}"

    @property
    def bucket(self) -> int:
        """How wide buckets are, in milliseconds."""
        return self.BUCKET // _MILLISECOND

    @property
    def grace(self) -> int:
        """How old a bucket is when it is stated, in milliseconds."""
        return self.GRACE // _MILLISECOND


def read(raw: object) -> dict[str, PeerSettings]:
    """Return RECONCILE by group; raise UnusableSettings with all that is wrong."""
    if not isinstance(raw, Mapping):
        refuse([f"RECONCILE must be a dict, not {type(raw).__name__}"])
        return {}
    refuse(_flaws(raw))
    return {str(group): parse(PeerSettings, each, _where(group)) for group, each in raw.items()}


def _flaws(raw: Mapping[Any, Any]) -> Iterator[str]:
    for group, each in raw.items():
        if not isinstance(group, str) or not 1 <= len(group) <= MAX_GROUP:
            yield f"{_where(group)}: its name must have from 1 to {MAX_GROUP} characters"
        for flaw in flaws_in(parse, PeerSettings, each, _where(group)):
            yield flaw if flaw.startswith("RECONCILE") else f"{_where(group)}: {flaw}"


def _where(group: object) -> str:
    return f"RECONCILE[{group!r:.60}]"


@cache
def peers() -> Mapping[str, PeerSettings]:
    """Return RECONCILE as it is now, by group."""
    return read(getattr(settings, "RECONCILE", {}))


def _forget(*, setting: str, **_: Any) -> None:
    if setting == "RECONCILE":
        peers.cache_clear()


setting_changed.connect(_forget)

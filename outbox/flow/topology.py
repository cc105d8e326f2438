"""What flows where: event types, who handles them, and what they cause. Pure.

The code declares types and handlers, the rows show which of them are alive. Where the two differ
there is drift: what is declared and was not seen, and what was seen and is declared nowhere.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

from outbox.extensions.flow import Declared, Observed
from outbox.message.patterns import matches, selects_many


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """What one handler makes of one type.

    `group` is None if the handler is not in the code; it is not `declared` if it is there for other
    types only. `rate` and `p95` are those of Observed.
    """

    handler: str
    group: str | None = None
    declared: bool = False
    count: int = 0
    failed: int = 0
    rate: float | None = None
    p95: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeNode:
    """An event type: whether it is registered here, and how many of it the log was seen to have.

    `causes` counts the messages that messages of this type have led to, by their type.
    """

    name: str
    registered: bool = False
    emitted: int = 0
    uses: Sequence[Use] = ()
    causes: Mapping[str, int] = field(default_factory=dict)

    @property
    def declared(self) -> bool:
        """Whether it is registered here, or a handler in the code is for it."""
        return self.registered or any(use.declared for use in self.uses)

    @property
    def seen(self) -> bool:
        return bool(self.emitted or any(use.count for use in self.uses))


class Topology:
    """All types by name. `limit` is how many of the newest messages and receipts were looked at."""

    def __init__(
        self,
        *,
        types: Iterable[str],
        declared: Iterable[Declared],
        emitted: Mapping[str, int],
        observed: Iterable[Observed],
        causes: Mapping[tuple[str, str], int],
        limit: int,
    ) -> None:
        self.limit = limit
        registered, handlers, seen = set(types), list(declared), list(observed)
        by_type: dict[str, list[Observed]] = {}
        for each in seen:
            by_type.setdefault(each.type, []).append(each)
        caused: dict[str, Counter[str]] = {}
        for (cause, name), count in causes.items():
            caused.setdefault(cause, Counter())[name] += count
        names = registered | set(emitted) | set(caused) | {each.type for each in seen}
        names |= {each.pattern for each in handlers if not selects_many(each.pattern)}
        names |= {name for cause in caused.values() for name in cause}
        self.types = [
            TypeNode(
                name=name,
                registered=name in registered,
                emitted=emitted.get(name, 0),
                uses=_uses(name, handlers, by_type.get(name, [])),
                causes=dict(sorted(caused.get(name, {}).items())),
            )
            for name in sorted(names)
        ]

    @property
    def not_seen(self) -> list[str]:
        """What is declared and was not seen, in words."""
        found = [f"type {each.name}" for each in self.types if each.registered and not each.seen]
        handled = {use.handler for each in self.types for use in each.uses if use.count}
        idle = {use.handler for each in self.types for use in each.uses if use.declared}
        return [*found, *(f"handler {name}" for name in sorted(idle - handled))]

    @property
    def not_declared(self) -> list[str]:
        """What was seen and is declared nowhere in this service, in words."""
        found = [f"type {each.name}" for each in self.types if each.seen and not each.declared]
        gone = {use.handler for each in self.types for use in each.uses if use.group is None}
        return [*found, *(f"handler {name}" for name in sorted(gone))]


def _uses(name: str, handlers: Sequence[Declared], seen: Sequence[Observed]) -> list[Use]:
    counts = {each.handler: each for each in seen}
    groups = {each.handler: each.group for each in handlers}
    found: dict[str, Use] = {}
    for each in handlers:
        if matches(each.pattern, name):
            declared = Use(handler=each.handler, group=each.group, declared=True)
            found[each.handler] = _with(declared, counts.get(each.handler))
    for handler, observed in counts.items():
        if handler not in found:
            found[handler] = _with(Use(handler=handler, group=groups.get(handler)), observed)
    return [found[handler] for handler in sorted(found)]


def _with(use: Use, observed: Observed | None) -> Use:
    """Return a use with what was seen of it."""
    if observed is None:
        return use
    names = ("count", "failed", "rate", "p95")
    return replace(use, **{name: getattr(observed, name) for name in names})

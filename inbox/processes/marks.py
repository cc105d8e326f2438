"""The decorators of a process: they mark methods, from which its table is made."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

from inbox.processes.keys import KeyOption, KeySource, check_key
from inbox.processes.table import Transition, Trigger, TriggerKind
from outbox.exceptions import ConfigurationError
from outbox.message.event_types import EventType, check_attribute
from outbox.message.event_types import registry as event_types
from outbox.signatures import explained

M = TypeVar("M", bound=Callable[..., Any])
States = str | Iterable[str] | None

OUTCOMES = frozenset({"failed", "expired", "cancelled"})
"""How a request can end without a reply."""
MARKS = "_transitions_of_a_process"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What a decorator says of a method; `sources` of None are all states that are not final."""

    triggers: tuple[Trigger, ...]
    sources: tuple[str, ...] | None
    targets: tuple[str, ...]
    starts: bool = False
    joins: bool = False
    key_source: KeySource | None = None

    def transition(self, method: str, open_states: frozenset[str]) -> Transition:
        """Return the line of the table for a method."""
        sources = frozenset(self.sources or ())
        if self.sources is None and not self.starts:
            sources = open_states
        key_sources = dict.fromkeys(self.triggers, self.key_source) if self.key_source else {}
        return Transition(
            method=method,
            triggers=self.triggers,
            sources=sources,
            targets=self.targets,
            starts=self.starts,
            joins=self.joins,
            key_sources=key_sources,
        )


@explained("@on(OrderPlaced, key='order_id', starts=True, to=State.AWAITING)")
def on(
    event: type,
    *,
    key: KeyOption = None,
    alias: str = "",
    starts: bool = False,
    frm: States = None,
    to: States = None,
) -> Callable[[M], M]:
    """Call the method for an event: def placed(self, event, do).

    `key` says to which instance the event belongs: the name of a field, a function of the event,
    MESSAGE_KEY, or by default the message's key, or else the instance that its cause came from.
    With `alias` it is one of those that do.alias() has named so. `starts`: it makes an instance if
    there is none. `frm` are the states in which it is handled, by default all that are not final
    (none besides the start if it starts). `to` is the next state, none to stay; of several the
    method returns one.
    """
    event_type = _event_type("on", event)
    owner = f"@on({event.__qualname__})"
    check_key(owner, key)
    if isinstance(key, str):
        check_attribute(owner, "key", key, event)
    if not isinstance(alias, str):
        raise ConfigurationError(f"{owner}: alias is the name that do.alias() was given")
    if alias and starts:
        raise ConfigurationError(f"{owner}: what starts an instance is found by no alias")
    return _marking(
        Mark(
            triggers=(_trigger(event_type),),
            sources=_states(owner, "frm", frm),
            targets=_states(owner, "to", to) or (),
            starts=starts,
            key_source=KeySource(key=key, alias=alias),
        )
    )


@explained("@on_all(PaymentTaken, StockReserved, key='order_id', frm=State.OPEN, to=State.READY)")
def on_all(
    *events: type, key: KeyOption = None, alias: str = "", frm: States = None, to: States = None
) -> Callable[[M], M]:
    """Call the method once all of some events have come, in any order: def ready(self, events, do).

    It is given them in the order in which they stand here. The options are those of on().
    """
    found = [_event_type("on_all", each) for each in events]
    if len(set(found)) != len(events) or len(events) < 2:
        raise ConfigurationError("@on_all is for two or more events, each of its own type")
    owner = f"@on_all({', '.join(each.__qualname__ for each in events)})"
    check_key(owner, key)
    if isinstance(key, str):
        for each in events:
            check_attribute(owner, "key", key, each)
    return _marking(
        Mark(
            triggers=tuple(map(_trigger, found)),
            sources=_states(owner, "frm", frm),
            targets=_states(owner, "to", to) or (),
            joins=True,
            key_source=KeySource(key=key, alias=alias),
        )
    )


@explained("@on_timer('unpaid', frm=State.AWAITING, to=State.CANCELLED)")
def on_timer(name: str, *, frm: States = None, to: States = None) -> Callable[[M], M]:
    """Call the method when a timer that do.timer() has set is due: def unpaid(self, do)."""
    if not name or type(name) is not str:
        raise ConfigurationError("@on_timer needs the name that do.timer() was given")
    owner = f"@on_timer({name!r})"
    return _marking(
        Mark(
            triggers=(Trigger(TriggerKind.TIMER, name),),
            sources=_states(owner, "frm", frm),
            targets=_states(owner, "to", to) or (),
        )
    )


@explained("@on_reply(Charge, PaymentTaken, frm=State.AWAITING, to=State.PAID)")
def on_reply(
    request: type, *ends: type | str, frm: States = None, to: States = None
) -> Callable[[M], M]:
    """Call the method when a request that the instance has asked ends: def paid(self, settled, do).

    `ends` are those that it is for: classes of replies, or "failed", "expired" and "cancelled"; by
    default all. `settled.reply` is the reply.
    """
    request_type = _event_type("on_reply", request)
    owner = f"@on_reply({request.__qualname__})"
    if not request_type.is_request:
        raise ConfigurationError(f"{owner}: {request_type} is no request")
    names = [_end(owner, request_type, each) for each in ends] or [""]
    return _marking(
        Mark(
            triggers=tuple(
                Trigger(TriggerKind.REPLY, request_type.name, end=name) for name in names
            ),
            sources=_states(owner, "frm", frm),
            targets=_states(owner, "to", to) or (),
        )
    )


def _end(owner: str, request_type: EventType, end: type | str) -> str:
    if isinstance(end, type):
        if end not in request_type.replies:
            raise ConfigurationError(
                f"{owner}: {end.__qualname__} is no reply of {request_type}; its replies are "
                f"{', '.join(each.__qualname__ for each in request_type.replies)}"
            )
        return event_types.of_class(end).name
    if end not in OUTCOMES:
        raise ConfigurationError(
            f"{owner}: {end!r} is no end of a request without a reply; those are "
            f"{', '.join(sorted(OUTCOMES))}"
        )
    return end


def _event_type(decorator: str, event: object) -> EventType:
    if not isinstance(event, type):
        raise ConfigurationError(f"@{decorator} is for event classes, not {event!r:.100}")
    return event_types.of_class(event)


def _trigger(event_type: EventType) -> Trigger:
    return Trigger(TriggerKind.EVENT, event_type.name, event_type.version)


def _states(owner: str, option: str, states: States) -> tuple[str, ...] | None:
    """Return the values of one or several states; None if none is named."""
    if states is None:
        return None
    several: tuple[object, ...] = (states,)
    if not isinstance(states, str) and isinstance(states, Iterable):
        several = tuple(states)
    named = [each for each in several if isinstance(each, str)]
    if not named or len(named) < len(several):
        raise ConfigurationError(f"{owner}: {option} is a state, or several, not {states!r:.100}")
    return tuple(str(each.value) if isinstance(each, Enum) else each for each in named)


def _marking(mark: Mark) -> Callable[[M], M]:
    def decorate(method: M) -> M:
        method.__dict__.setdefault(MARKS, []).append(mark)
        return method

    return decorate

"""Take one step: from the newest one and what has come to the next. Pure, whatever is stored where.

The caller holds the instance, so that nobody else takes a step meanwhile.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from inbox.processes import compensation
from inbox.processes.data import data_of, read_data
from inbox.processes.intents import Ask, CancelTimer, Do, Emit, Intent, SetTimer
from inbox.processes.policies import Policy, Skip
from inbox.processes.steps import Said, Step, Timer, Undo, UndoState
from inbox.processes.table import Transition, Trigger, TriggerKind
from outbox.exceptions import ConfigurationError
from outbox.message.event_types import registry

if TYPE_CHECKING:
    from inbox.processes.declaring import Process


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """What has come to an instance: its trigger, what a method is given of it, and its message.

    `event` is an event, the Settled of a request, or None of a timer. `request_id` is that of
    a request that has ended; its trigger says how.
    """

    trigger: Trigger
    event: Any
    message_id: str
    request_id: str = ""


class Taken(NamedTuple):
    """A step, what is to happen with it, and by which method: "" if none was called."""

    step: Step
    intents: tuple[Intent, ...]
    method: str


class NotTaken(NamedTuple):
    """What becomes of a message for which no step is taken, and why.

    `unknown`: its instance is not known by the other key that it gives.
    """

    policy: Policy
    why: str
    unknown: bool = False


def take(
    process: type["Process"],
    key: str,
    last: Step | None,
    arrival: Arrival,
    *,
    now: datetime,
    new_id: Callable[[], str],
) -> Taken | NotTaken:
    """Return the step that an arrival leads to, or what becomes of it instead.

    Raises what the method raises, and ConfigurationError for what it says that cannot be; nothing
    has happened then.
    """
    trigger, table = arrival.trigger, process.table
    if trigger.kind is TriggerKind.TIMER and not _is_awaited(last, arrival):
        return NotTaken(Skip(), "The timer was cancelled, or set anew, since.")
    if last is None:
        step = Step(number=1, state="", version=process.version, data=b"")
    else:
        step = process.upgraded(last).following(process.version)
    state = step.state or None
    transition = table.find(state, trigger)
    is_undo = bool(arrival.request_id) and _note_end(step, arrival)
    if transition is None and not is_undo:
        return NotTaken(table.policy(state, trigger), _why(trigger, state))
    step.timers.pop(trigger.name if trigger.kind is TriggerKind.TIMER else "", None)
    do = Do(now=now, new_id=new_id)
    method = ""
    if transition is not None:
        method = _follow(process, key, transition, step, arrival, do)
    intents = [*_noted(step, do)]
    if step.compensating and not step.stuck:
        intents += _undone(step, new_id)
    step.ended = step.state in table.final and not (step.compensating and step.undos)
    if step.ended:
        intents += [
            CancelTimer(id=each.message_id, name=name) for name, each in step.timers.items()
        ]
        step.timers.clear()
    return Taken(step, tuple(intents), method)


def _is_awaited(last: Step | None, arrival: Arrival) -> bool:
    timer = last.timers.get(arrival.trigger.name) if last is not None else None
    return timer is not None and timer.message_id == arrival.message_id


def _why(trigger: Trigger, state: str | None) -> str:
    if state is None:
        return f"No instance has this key yet, and {trigger} starts none."
    return f"State {state} does not handle {trigger}."


def _note_end(step: Step, arrival: Arrival) -> bool:
    """Note how a request has ended; tell whether it was one that can be undone, or undoes."""
    before = step.undos
    step.undos, trouble = compensation.told(before, arrival.request_id, arrival.trigger.end)
    step.stuck = trouble or step.stuck
    return bool(trouble) or step.undos != before


def _follow(
    process: type["Process"],
    key: str,
    transition: Transition,
    step: Step,
    arrival: Arrival,
    do: Do,
) -> str:
    """Call the method of a transition, unless it waits for others; return its name if so."""
    event = arrival.event
    if transition.joins:
        events = _joined(transition, step, arrival)
        if events is None:
            return ""
        del step.parts[transition.method]
        event = events
    instance = process.at(key, step.state, read_data(process, step.data, event))
    method = getattr(instance, transition.method)
    target = method(do) if arrival.trigger.kind is TriggerKind.TIMER else method(event, do)
    step.state = _target(process, transition, step.state, target)
    step.data = data_of(process, instance)
    return transition.method


def _joined(transition: Transition, step: Step, arrival: Arrival) -> tuple[Any, ...] | None:
    """Keep what has come of several events; return all of them when the last has come."""
    parts = step.parts.setdefault(transition.method, {})
    parts[str(transition.triggers.index(arrival.trigger))] = Said.of(arrival.event)
    if len(parts) < len(transition.triggers):
        return None
    return tuple(parts[str(index)].event() for index in range(len(transition.triggers)))


def _target(process: type["Process"], transition: Transition, state: str, returned: object) -> str:
    """Return the state to which a transition leads: its only one, or that which the method says."""
    if len(transition.targets) < 2 and returned is None:
        return transition.targets[0] if transition.targets else state
    if returned in transition.targets:
        return str(getattr(returned, "value", returned))
    raise ConfigurationError(
        f"{process.__name__}.{transition.method} returned {returned!r}; it returns "
        + (
            f"one of {', '.join(transition.targets)}, as its to= says."
            if len(transition.targets) > 1
            else "nothing: its to= names the one state."
        )
    )


def _noted(step: Step, do: Do) -> list[Intent]:
    """Note in a step what its method wants; return what is to happen."""
    intents: list[Intent] = []
    for intent in do.intents:
        if isinstance(intent, SetTimer | CancelTimer) and (
            old := step.timers.pop(intent.name, None)
        ):
            intents.append(CancelTimer(id=old.message_id, name=intent.name))
        if isinstance(intent, SetTimer):
            step.timers[intent.name] = Timer(message_id=intent.id, due=intent.due)
        if isinstance(intent, Ask) and intent.undo is not None:
            step.undos += (
                Undo(
                    request_id=intent.id,
                    state=UndoState.ASKED,
                    undo=Said.of(intent.undo),
                    done_by=intent.done_by,
                ),
            )
        if not isinstance(intent, CancelTimer):
            intents.append(intent)
    step.compensating |= do.compensating
    return intents


def _undone(step: Step, new_id: Callable[[], str]) -> list[Intent]:
    """Undo what comes next; return what is to happen for it."""
    intents: list[Intent] = []
    while undo := compensation.newest_done(step.undos):
        step.undos = step.undos[:-1]
        event, event_type = undo.undo.event(), undo.undo.event_type
        if not event_type.is_request:
            intents.append(Emit(event=event))
            continue
        ask = Ask(id=new_id(), request=event)
        done_by = tuple(registry.of_class(each).name for each in event_type.replies[:1])
        step.undos += (
            Undo(request_id=ask.id, state=UndoState.UNDOING, undo=undo.undo, done_by=done_by),
        )
        intents.append(ask)
    return intents

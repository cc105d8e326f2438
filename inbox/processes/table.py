"""The table of a process: which message leads from which state to which. Pure, and checked once."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from inbox.processes.keys import KeySource
from inbox.processes.policies import Policy, Reject, Wait
from outbox.exceptions import ConfigurationError


class TriggerKind(Enum):
    """What makes an instance take a step."""

    EVENT = "event"
    TIMER = "timer"
    REPLY = "reply"


class Trigger(NamedTuple):
    """What a transition is for: an event type, a timer, or how a request of a type has ended.

    `version` is that of an event. `end` is the type of a reply, or an outcome; "" is any end.
    """

    kind: TriggerKind
    name: str
    version: int = 0
    end: str = ""

    def __str__(self) -> str:
        if self.kind is TriggerKind.EVENT:
            return f"{self.name} v{self.version}"
        if self.kind is TriggerKind.TIMER:
            return f"timer {self.name}"
        return f"reply to {self.name}" + (f": {self.end}" if self.end else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """One line of the table: in any of `sources`, a trigger calls `method` and leads to a target.

    Without `targets` the state stays; of several the method returns one. `starts` is whether it
    makes an instance as well. With `joins` all `triggers` have to have come, else any of them is
    enough. `key_sources` says for each where the key of the instance is.
    """

    method: str
    triggers: tuple[Trigger, ...]
    sources: frozenset[str]
    targets: tuple[str, ...] = ()
    starts: bool = False
    joins: bool = False
    key_sources: Mapping[Trigger, KeySource] = field(default_factory=dict)

    @property
    def leads_to(self) -> frozenset[str]:
        """The states in which an instance can be after it."""
        return frozenset(self.targets) or self.sources


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The states of a process and its transitions.

    `final` are the states in which an instance has ended. `early` and `late` are the policies of
    triggers before a state that handles them, and after the end; `policies` those of one state.
    """

    process: str
    states: tuple[str, ...]
    final: frozenset[str]
    transitions: tuple[Transition, ...]
    early: Mapping[Trigger, Policy] = field(default_factory=dict)
    late: Mapping[Trigger, Policy] = field(default_factory=dict)
    policies: Mapping[tuple[str, Trigger], Policy] = field(default_factory=dict)
    _by_pair: Mapping[tuple[str | None, Trigger], Transition] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        by_pair: dict[tuple[str | None, Trigger], Transition] = {}
        for transition in self.transitions:
            for pair in _pairs(transition):
                if (other := by_pair.setdefault(pair, transition)) is not transition:
                    state, trigger = pair
                    raise ConfigurationError(
                        f"Process {self.process}: {other.method} and {transition.method} are both "
                        f"for {trigger} {_where(state)}. One message leads to one state."
                    )
        object.__setattr__(self, "_by_pair", by_pair)
        self._check()

    @property
    def triggers(self) -> tuple[Trigger, ...]:
        """Everything that some state handles, each once, in the order of declaration."""
        return tuple(dict.fromkeys(each for one in self.transitions for each in one.triggers))

    def find(self, state: str | None, trigger: Trigger) -> Transition | None:
        """Return the transition of a state, None being that before the first step."""
        found = self._by_pair.get((state, trigger))
        if found is None and trigger.end:
            return self._by_pair.get((state, trigger._replace(end="")))
        return found

    def key_source(self, trigger: Trigger) -> KeySource | None:
        """Return where the key is in a message; None if nothing is said of its kind."""
        found = (each.key_sources.get(trigger) for each in self.transitions)
        return next((each for each in found if each is not None), None)

    def policy(self, state: str | None, trigger: Trigger) -> Policy:
        """Return what becomes of a message in a state that does not handle it."""
        declared = self.declared_policy(state, trigger)
        if declared is not None:
            return declared
        if state in self.final:
            return Reject(f"it came after the end, in state {state}")
        return Wait()

    def declared_policy(self, state: str | None, trigger: Trigger) -> Policy | None:
        """Return the policy that the process declares for a pair, if it does."""
        for each in (trigger, trigger._replace(end="")):
            if state is not None and (found := self.policies.get((state, each))):
                return found
            if found := (self.late if state in self.final else self.early).get(each):
                return found
        return None

    def undeclared(self) -> Iterator[tuple[str | None, Trigger]]:
        """Return the pairs of which nothing is declared: what becomes of them is the default."""
        for state in (None, *self.states):
            for trigger in self.triggers:
                if trigger.kind is TriggerKind.TIMER:
                    continue  # one that is not awaited any more is over
                if self.find(state, trigger) or self.declared_policy(state, trigger):
                    continue
                yield state, trigger

    def _check(self) -> None:
        known = frozenset(self.states)
        used = {each for one in self.transitions for each in (*one.sources, *one.targets)}
        for state in sorted(used | self.final | {state for state, _ in self.policies}):
            if state not in known:
                self._refuse(f"there is no state {state!r}; its states are {_listed(known)}")
        if not any(each.starts for each in self.transitions):
            self._refuse("nothing starts it: one @on(..., starts=True) has to")
        for each in self.transitions:
            if each.starts and not each.targets:
                self._refuse(f"{each.method} starts an instance, so it needs to=")
            if each.joins and each.starts:
                self._refuse(f"{each.method} waits for several, so it cannot start an instance")
            if each.targets and (ended := each.sources & self.final):
                self._refuse(
                    f"{each.method} leads out of {_listed(ended)}, which is final: after the end "
                    "only what stays there is possible"
                )
        self._check_ways(known)

    def _check_ways(self, known: frozenset[str]) -> None:
        begun = {state for each in self.transitions if each.starts for state in each.targets}
        reached = self._reached(begun)
        if lost := known - reached:
            self._refuse(f"no way leads to {_listed(lost)}")
        for state in sorted(known - self.final):
            if not self._reached({state}) & self.final:
                self._refuse(
                    f"no way leads from {state} to an end. Name what is one in final = {{…}}"
                )

    def _reached(self, states: Iterable[str]) -> frozenset[str]:
        """Return the states to which some way leads from any of `states`, themselves included."""
        reached, new = frozenset(states), frozenset(states)
        while new:
            onward = (frozenset(each.targets) for each in self.transitions if each.sources & new)
            new = frozenset().union(*onward) - reached
            reached |= new
        return reached

    def _refuse(self, flaw: str) -> None:
        raise ConfigurationError(f"Process {self.process}: {flaw}.")


def _pairs(transition: Transition) -> Iterator[tuple[str | None, Trigger]]:
    for trigger in transition.triggers:
        if transition.starts:
            yield None, trigger
        for state in sorted(transition.sources):
            yield state, trigger


def _where(state: str | None) -> str:
    return "before the first step" if state is None else f"in state {state}"


def _listed(states: Iterable[str]) -> str:
    return ", ".join(sorted(states)) or "none"

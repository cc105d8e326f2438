"""The base of processes: a class whose methods are the lines of its table."""

from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

import msgspec

from inbox.conf import is_group
from inbox.processes import data
from inbox.processes.data import Upgrade
from inbox.processes.handlers import register, unregister
from inbox.processes.marks import MARKS, Mark
from inbox.processes.policies import Policy, Reject, Skip, Wait
from inbox.processes.steps import Step
from inbox.processes.table import Table, Trigger, TriggerKind
from inbox.verdicts import RetryPolicy
from outbox.exceptions import ConfigurationError
from outbox.message.event_types import EventType, is_type_name
from outbox.message.event_types import registry as event_types
from outbox.signatures import explained

if TYPE_CHECKING:
    from inbox.processes.testing import Run

U = TypeVar("U", bound=Callable[..., Any])

MAX_NAME = 40
"""Characters in the name of a process; those of its receipts begin with it."""
MAX_STATE = 40
_UPGRADES = "_upgrades_of_a_process"


class Process:
    """A declared state machine over messages: a controller that knows how far something has come.

    class Fulfilment(Process, name="shop.fulfilment"):
        class State(TextChoices): ...
        @dataclass
        class Data: ...
        final = {State.SHIPPED, State.CANCELLED}

        @on(OrderPlaced, key="order_id", starts=True, to=State.AWAITING)
        def placed(self, event: OrderPlaced, do: Do) -> None: ...

    One instance of it stands for one key. Its methods are given what has come and `do`, which
    records what is to happen. They read and change `self.data`, of class `Data`; `self.key` and
    `self.state` say which instance it is and where it stands. A method touches no database unless
    the class says uses_database=True.

    `early` and `late` say what becomes of an event that comes before the state that handles it, or
    after the end; `policies`, by state and event, what becomes of it in that state. By default it
    waits, or is dead after the end. With `strict`, `check` names what is left to these defaults.

    `name` identifies it in rows and messages; `version` counts its tables, and @upgrade() leads
    from one to the next. `group` and `retry` are those of a handler.
    """

    State: ClassVar[type[Enum]]
    Data: ClassVar[Any] = None
    final: ClassVar[Any] = ()
    early: ClassVar[Mapping[type, Policy]] = {}
    late: ClassVar[Mapping[type, Policy]] = {}
    policies: ClassVar[Mapping[tuple[Any, type], Policy]] = {}

    name: ClassVar[str] = ""
    version: ClassVar[int] = 1
    group: ClassVar[str] = ""
    retry: ClassVar[RetryPolicy | None] = None
    strict: ClassVar[bool] = False
    uses_database: ClassVar[bool] = False
    table: ClassVar[Table]
    data_type: ClassVar[EventType | None] = None
    upgrades: ClassVar[Mapping[int, Upgrade]] = {}

    key: str
    state: str
    data: Any

    @explained("class Fulfilment(Process, name='shop.fulfilment')")
    def __init_subclass__(
        cls,
        *,
        name: str = "",
        version: int = 1,
        group: str = "",
        retry: RetryPolicy | None = None,
        strict: bool = False,
        uses_database: bool = False,
    ) -> None:
        super().__init_subclass__()
        if not name:
            return  # what several processes have in common
        cls.name, cls.version, cls.group, cls.retry = name, version, group, retry
        cls.strict, cls.uses_database = strict, uses_database
        _check_options(cls)
        cls.upgrades = dict(_upgrades(cls))
        cls.data_type = _data_type(cls)
        cls.table = _table(cls)
        processes.add(cls)
        register(cls)

    @classmethod
    def given(cls, *events: Any) -> "Run":
        """Let events come to a process in a test, without a database."""
        from inbox.processes.testing import Run  # noqa: PLC0415 - for tests alone

        return Run(cls).given(*events)

    @classmethod
    def at(cls, key: str, state: str, found: Any) -> Self:
        """Return an instance as a method sees it."""
        instance = cls.__new__(cls)
        instance.key, instance.state, instance.data = key, state, found
        return instance

    @classmethod
    def upgraded(cls, step: Step) -> Step:
        """Return a step of an earlier version as this version has it.

        Raises ConfigurationError for a state that there is not, or a version that is newer.
        """
        if step.version == cls.version:
            return step
        if step.version > cls.version:
            raise ConfigurationError(
                f"Process {cls.name}: an instance is of version {step.version}, and this is "
                f"version {cls.version}. A newer process has taken that step: let it go on."
            )
        state, found = data.upgraded(cls.upgrades, step.version, cls.version, step.state, step.data)
        if state not in cls.table.states:
            raise ConfigurationError(
                f"Process {cls.name}: version {cls.version} has no state {state!r}, in which an "
                f"instance of version {step.version} is. Say with @upgrade({cls.version - 1}, "
                f"{cls.version}) what it is now."
            )
        return msgspec.structs.replace(step, state=state, data=found, version=cls.version)


@explained("@upgrade(1, 2)")
def upgrade(old: int, new: int) -> Callable[[U], U]:
    """Make of an instance's state and data those of the next version.

    @upgrade(1, 2)
    def rename(state, data): return state, {**data, "total": data.pop("sum")}

    The function is given the state's value and the data as plain values, and returns both.
    """
    if type(old) is not int or new != old + 1:
        raise ConfigurationError(
            f"@upgrade leads from a version to the next, not {old!r} to {new!r}"
        )

    def decorate(function: U) -> U:
        function.__dict__.setdefault(_UPGRADES, []).append(old)
        return function

    return decorate


class ProcessRegistry:
    """Processes by name."""

    def __init__(self) -> None:
        self._processes: dict[str, type[Process]] = {}

    def add(self, new: type[Process]) -> None:
        """Register a process; raise ConfigurationError if its name is taken."""
        taken = self._processes.get(new.name)
        if taken is not None and _origin(taken) != _origin(new):
            raise ConfigurationError(
                f"Two processes are named {new.name!r}: {_origin(taken)} and {_origin(new)}. Their "
                "instances are kept by name, so give one another."
            )
        self._processes[new.name] = new

    def remove(self, name: str) -> None:
        """Forget a process; for tests."""
        if found := self._processes.pop(name, None):
            unregister(found)

    def get(self, name: str) -> type[Process] | None:
        """Return the process of a name, or None."""
        return self._processes.get(name)

    def __iter__(self) -> Iterator[type[Process]]:
        return iter(list(self._processes.values()))


processes = ProcessRegistry()


def _check_options(process: type[Process]) -> None:
    name = process.name
    if not is_type_name(name) or len(name) > MAX_NAME:
        raise ConfigurationError(
            f"Malformed name of a process {name!r:.100}: words joined by dots, such as "
            f"'shop.fulfilment', at most {MAX_NAME} characters"
        )
    if type(process.version) is not int or process.version < 1:
        raise ConfigurationError(f"Process {name}: version is a whole number from 1 on")
    if process.group and not is_group(process.group):
        raise ConfigurationError(f"Process {name}: malformed group {process.group!r}")
    if process.retry is not None and not isinstance(process.retry, RetryPolicy):
        raise ConfigurationError(f"Process {name}: retry is an inbox.RetryPolicy")
    states = getattr(process, "State", None)
    if not (isinstance(states, type) and issubclass(states, str) and issubclass(states, Enum)):
        raise ConfigurationError(
            f"Process {name}: its states are a class State(TextChoices) in its body"
        )
    for each in states:
        if not 1 <= len(each.value) <= MAX_STATE or not each.value.isprintable():
            raise ConfigurationError(
                f"Process {name}: the value of state {each.name} is 1 to {MAX_STATE} printable "
                "characters"
            )


def _data_type(process: type[Process]) -> EventType | None:
    if process.Data is None:
        return None
    try:
        return data.data_type(process.name, process.version, process.Data)
    except ConfigurationError:
        raise ConfigurationError(
            f"Process {process.name}: Data is a dataclass, a msgspec.Struct or a pydantic model"
        ) from None


def _table(process: type[Process]) -> Table:
    states = tuple(str(each.value) for each in process.State)
    final = frozenset(_state(each) for each in process.final)
    open_states = frozenset(states) - final
    return Table(
        process=process.name,
        states=states,
        final=final,
        transitions=tuple(
            mark.transition(method, open_states) for method, mark in _marked(process)
        ),
        early=_by_trigger(process, "early", process.early),
        late=_by_trigger(process, "late", process.late),
        policies={
            (_state(state), trigger): policy
            for (state, event), policy in process.policies.items()
            for trigger in _by_trigger(process, "policies", {event: policy})
        },
    )


def _marked(process: type[Process]) -> Iterator[tuple[str, Mark]]:
    """Return the methods that are marked, those of its bases as well, in order of definition."""
    seen = dict.fromkeys(name for base in reversed(process.__mro__) for name in vars(base))
    for name in seen:
        for mark in getattr(getattr(process, name, None), MARKS, ()):
            yield name, mark


def _upgrades(process: type[Process]) -> Iterator[tuple[int, Upgrade]]:
    for base in reversed(process.__mro__):
        for found in vars(base).values():
            function = found.__func__ if isinstance(found, staticmethod) else found
            for old in getattr(function, _UPGRADES, ()):
                yield old, function


def _by_trigger(
    process: type[Process], option: str, policies: Mapping[type, Policy]
) -> dict[Trigger, Policy]:
    found: dict[Trigger, Policy] = {}
    for event, policy in policies.items():
        if not isinstance(policy, Wait | Skip | Reject):
            raise ConfigurationError(
                f"Process {process.name}: {option} says Wait(), Skip() or Reject() of an event, "
                f"not {policy!r:.100}"
            )
        event_type = event_types.of_class(event)
        if event_type.is_request:
            found[Trigger(TriggerKind.REPLY, event_type.name)] = policy
        found[Trigger(TriggerKind.EVENT, event_type.name, event_type.version)] = policy
    return found


def _state(state: object) -> str:
    return str(getattr(state, "value", state))


def _origin(process: type[Process]) -> str:
    return f"{process.__module__}.{process.__qualname__}"

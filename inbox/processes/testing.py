"""Test a process without a database: Fulfilment.given(OrderPlaced(1)).then(State.AWAITING)."""

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from inbox.conf import inbox_settings
from inbox.processes.data import read_data
from inbox.processes.intents import Alias, Answer, Ask, CancelTimer, Emit, Intent, SetTimer
from inbox.processes.policies import Policy, Skip, Wait
from inbox.processes.steps import Step
from inbox.processes.table import Trigger, TriggerKind
from inbox.processes.taking import Arrival, NotTaken, take
from outbox.conf import outbox_settings
from outbox.message.event_types import registry as event_types
from outbox.producer.drafting import Draft, wrap
from outbox.replies.settled import Settled

if TYPE_CHECKING:
    from inbox.processes.declaring import Process

BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
"""The time at which a test begins."""
EVERY_ORDER = 6
"""Up to so many events every order is tried; of more, some that are chosen at random."""
ORDERS = 200
"""How many orders are tried of more events."""


class Reply(NamedTuple):
    """Among events: the answer to a request, which comes at this place, or once it is asked.

    `request` is its class, or the request itself where several are asked. `end` is the reply, or
    how it ends without one: "failed", "expired" or "cancelled".
    """

    request: Any
    end: Any


class Coming(NamedTuple):
    """What comes to an instance: by which key, among which aliases; if it waits, why."""

    alias: str
    key: str
    arrival: Arrival
    since: datetime
    why: str = ""
    until: datetime | None = None


class Said(NamedTuple):
    """What an instance has said: what it emitted, asked, or answered."""

    key: str
    event: Any


@dataclass(slots=True)
class Run:
    """A process to which messages come, one after the other, on a clock that only a test moves.

    It keeps all that became of them: `steps` by key, `emitted`, `asked`, `answered` and
    `cancelled`, what is `waiting`, `skipped` and `rejected`.
    """

    process: type["Process"]
    now: datetime = BEGINNING
    steps: dict[str, list[Step]] = field(default_factory=dict)
    emitted: list[Said] = field(default_factory=list)
    asked: list[Said] = field(default_factory=list)
    answered: list[Said] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    waiting: list[Coming] = field(default_factory=list)
    skipped: list[Coming] = field(default_factory=list)
    rejected: list[Coming] = field(default_factory=list)
    _pending: dict[str, tuple[str, Any]] = field(default_factory=dict)
    _aliases: dict[tuple[str, str], str] = field(default_factory=dict)
    _seen: set[str] = field(default_factory=set)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    # --- What comes -----------------------------------------------------------------------------

    def given(self, *events: Any) -> Self:
        """Let events come, in this order."""
        for event in events:
            self.deliver(self.coming(event))
        return self

    def replied(self, request: Any, reply: Any) -> Self:
        """Let the oldest open request of a class, or the one that is given, be answered."""
        return self._end(request, "answered", reply)

    def ended(self, request: Any, outcome: str, reason: str = "") -> Self:
        """Let the oldest open request of a class, or the one that is given, end without a reply.

        That is "failed", "expired" or "cancelled".
        """
        return self._end(request, outcome, None, reason)

    def after(self, length: timedelta) -> Self:
        """Let time pass: timers that are due come, and what has waited for too long is rejected."""
        end = self.now + length
        while True:
            timers = [
                (timer.due, key, name, timer.message_id)
                for key, steps in self.steps.items()
                for name, timer in steps[-1].timers.items()
            ]
            due, key, name, message_id = min(timers, default=(end, "", "", ""))
            if not message_id or due > end:
                break
            self._pass(due)
            trigger = Trigger(TriggerKind.TIMER, name)
            arrival = Arrival(trigger=trigger, event=None, message_id=message_id)
            self.deliver(Coming("", key, arrival, due))
        self._pass(end)
        return self

    # --- What is demanded -----------------------------------------------------------------------

    def then(
        self,
        state: Any,
        *,
        emits: Sequence[Any] | None = None,
        asks: Sequence[Any] | None = None,
        answers: Sequence[Any] | None = None,
        timers: Sequence[str] | None = None,
        cancels: Sequence[str] | None = None,
        data: Any = None,
        key: str | None = None,
    ) -> Self:
        """Demand a state, and what was said until now; what is not given is not looked at.

        `timers` are those that are set, `cancels` those that were cancelled.
        """
        step = self.last(key)
        of = [self.key if key is None else key]
        demands: list[tuple[str, object, object]] = [
            ("state", str(getattr(state, "value", state)), step.state)
        ]
        for name, wanted, said in (
            ("emits", emits, self.emitted),
            ("asks", asks, self.asked),
            ("answers", answers, self.answered),
        ):
            if wanted is not None:
                demands.append(
                    (name, list(wanted), [each.event for each in said if each.key in of])
                )
        if timers is not None:
            demands.append(("timers", sorted(timers), sorted(step.timers)))
        if cancels is not None:
            demands.append(("cancels", list(cancels), self.cancelled))
        if data is not None:
            demands.append(("data", data, self.data(key)))
        wrong = [
            f"{name}: {found!r}, not {wanted!r}"
            for name, wanted, found in demands
            if wanted != found
        ]
        if wrong:
            raise AssertionError("\n".join((f"{self.process.name} {of[0]}", *wrong, *self._held())))
        return self

    def then_waits(self, *events: Any) -> Self:
        """Demand that these wait, or that anything does."""
        return self._demand("waits", self.waiting, events)

    def then_skips(self, *events: Any) -> Self:
        """Demand that these were skipped, or that anything was."""
        return self._demand("was skipped", self.skipped, events)

    def then_rejects(self, *events: Any) -> Self:
        """Demand that these were rejected, or that anything was."""
        return self._demand("was rejected", self.rejected, events)

    # --- What is there --------------------------------------------------------------------------

    @property
    def key(self) -> str:
        """The key of the instance, if there is one alone."""
        if len(self.steps) != 1:
            raise AssertionError(
                f"{self.process.name} has {len(self.steps)} instances: "
                f"{', '.join(self.steps) or 'none'}" + "".join(f"\n{each}" for each in self._held())
            )
        return next(iter(self.steps))

    def last(self, key: str | None = None) -> Step:
        """Return the newest step of an instance."""
        return self.steps[self.key if key is None else key][-1]

    def data(self, key: str | None = None) -> Any:
        """Return the data of an instance."""
        return read_data(self.process, self.last(key).data, None)

    def coming(self, event: Any) -> Coming:
        """Return an event as it comes, once or again."""
        event_type = event_types.of_class(type(event))
        trigger = Trigger(TriggerKind.EVENT, event_type.name, event_type.version)
        envelope = wrap(Draft(event=event), outbox_settings(), self.now)
        source = self.process.table.key_source(trigger)
        if source is None:
            raise AssertionError(f"{self.process.name} handles no {event_type}")
        key = source.of(self.process.name, event, envelope)
        arrival = Arrival(trigger=trigger, event=event, message_id=envelope.id)
        return Coming(source.alias, key, arrival, self.now)

    def deliver(self, coming: Coming) -> None:
        """Let something come; what has come before is a duplicate, and nothing happens."""
        if coming.arrival.message_id in self._seen:
            return
        self._seen.add(coming.arrival.message_id)
        self._try(coming)
        taken = -1
        while taken != (taken := sum(map(len, self.steps.values()))):
            waiting, self.waiting = self.waiting, []
            for each in waiting:
                self._try(each)

    def is_open(self, request: Any) -> bool:
        """Tell whether a request is open, or one of a class."""
        return self._open(request) is not None

    def _open(self, request: Any) -> str | None:
        for request_id, (_, asked) in self._pending.items():
            if asked == request or type(asked) is request:
                return request_id
        return None

    def _end(self, request: Any, outcome: str, reply: Any, reason: str = "") -> Self:
        request_id = self._open(request)
        if request_id is None:
            raise AssertionError(f"{self.process.name} has no open request {request!r}")
        key, asked = self._pending.pop(request_id)
        event_type = event_types.of_class(type(asked))
        settled = Settled(
            id=request_id,
            type=event_type.name,
            state=outcome,
            replies=() if reply is None else (reply,),
            reason=reason,
            by="",
            at=self.now,
            owner="",
            correlation_id=request_id,
        )
        end = outcome if reply is None else event_types.of_class(type(reply)).name
        arrival = Arrival(
            trigger=Trigger(TriggerKind.REPLY, event_type.name, end=end),
            event=settled,
            message_id=self._new_id(),
            request_id=request_id,
        )
        self.deliver(Coming("", key, arrival, self.now))
        return self

    def _pass(self, until: datetime) -> None:
        """Let time pass, and reject what has waited for too long."""
        self.now = until
        over = [each for each in self.waiting if each.until and each.until <= until]
        self.waiting = [each for each in self.waiting if each not in over]
        self.rejected += over

    def _try(self, coming: Coming) -> None:
        key = self._aliases.get((coming.alias, coming.key), "") if coming.alias else coming.key
        steps = self.steps.get(key, [])
        last = steps[-1] if steps else None
        taken = take(self.process, key, last, coming.arrival, now=self.now, new_id=self._new_id)
        if isinstance(taken, NotTaken):
            self._hold(coming._replace(why=taken.why), taken.policy)
            return
        self.steps.setdefault(key, []).append(taken.step)
        for intent in taken.intents:
            self._carry_out(key, intent)

    def _hold(self, coming: Coming, policy: Policy) -> None:
        if isinstance(policy, Wait):
            limit = policy.limit or timedelta(seconds=inbox_settings().GAP_TIMEOUT)
            self.waiting.append(coming._replace(until=coming.since + limit))
        elif isinstance(policy, Skip):
            self.skipped.append(coming)
        else:
            self.rejected.append(coming)

    def _carry_out(self, key: str, intent: Intent) -> None:
        match intent:
            case Emit():
                self.emitted.append(Said(key, intent.event))
            case Ask():
                self.asked.append(Said(key, intent.request))
                self._pending[intent.id] = (key, intent.request)
            case Answer():
                self.answered.append(Said(key, intent.reply))
            case CancelTimer():
                self.cancelled.append(intent.name)
            case Alias():
                self._aliases[intent.name, intent.value] = key
            case SetTimer():
                pass  # the step has it

    def _new_id(self) -> str:
        return f"message-{next(self._numbers)}"

    def _demand(self, verb: str, held: list[Coming], events: Sequence[Any]) -> Self:
        found = [each.arrival.event for each in held]
        if not found or [each for each in events if each not in found]:
            raise AssertionError(
                "\n".join(
                    (f"{list(events) or 'nothing'} {verb}; what {verb}: {found}", *self._held())
                )
            )
        return self

    def _held(self) -> Iterable[str]:
        for name, held in (
            ("waits", self.waiting),
            ("was skipped", self.skipped),
            ("was rejected", self.rejected),
        ):
            yield from (f"{each.arrival.event!r} {name}: {each.why}" for each in held)


def any_order(process: type["Process"], events: Sequence[Any]) -> Run:
    """Let events come in every order, each again as well; demand that all come to one end.

    An event is an instance of its class, or a Reply. Up to six are tried in every order; of more,
    hypothesis chooses. Returns the run in the order given. Raises AssertionError with both orders
    and their ends.
    """
    first = _in_order(process, events)
    wanted = _end_of(first)

    def check(order: Sequence[Any]) -> None:
        found = _end_of(_in_order(process, order))
        if found != wanted:
            raise AssertionError(
                f"{process.name} comes to another end in another order.\n{list(events)}:\n"
                f"{_told(wanted)}\n{list(order)}:\n{_told(found)}"
            )

    if len(events) <= EVERY_ORDER:
        for order in itertools.permutations(events):
            check(order)
        return first
    try:
        import hypothesis  # noqa: PLC0415 - a test dependency, for many events alone
        from hypothesis import strategies  # noqa: PLC0415
    except ImportError as exc:
        raise RuntimeError(
            f"any_order() of more than {EVERY_ORDER} events needs hypothesis; install that"
        ) from exc
    chosen = hypothesis.given(strategies.permutations(list(events)))(check)
    hypothesis.settings(max_examples=ORDERS, deadline=None, database=None)(chosen)()
    return first


def _in_order(process: type["Process"], events: Sequence[Any]) -> Run:
    run = Run(process)
    replies: list[Reply] = []
    come: list[Coming] = []
    for event in events:
        if isinstance(event, Reply):
            replies.append(event)
        else:
            come.append(coming := run.coming(event))
            run.deliver(coming)
            run.deliver(coming)
        while answered := next((each for each in replies if run.is_open(each.request)), None):
            replies.remove(answered)
            _reply(run, answered)
    for coming in reversed(come):
        run.deliver(coming)
    return run


def _reply(run: Run, reply: Reply) -> None:
    if isinstance(reply.end, str):
        run.ended(reply.request, reply.end)
    else:
        run.replied(reply.request, reply.end)


def _end_of(run: Run) -> dict[str, Any]:
    """Return where all instances are, what was said in whatever order, and what is left over."""
    return {
        "states": {key: (steps[-1].state, run.data(key)) for key, steps in run.steps.items()},
        **{
            name: Counter(repr(each.event) for each in getattr(run, name))
            for name in ("emitted", "asked", "answered")
        },
        **{
            name: Counter(repr(each.arrival.event) for each in getattr(run, name))
            for name in ("waiting", "skipped", "rejected")
        },
    }


def _told(end: dict[str, Any]) -> str:
    return "\n".join(f"  {name}: {dict(value)}" for name, value in end.items() if value)

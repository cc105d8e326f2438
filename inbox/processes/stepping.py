"""The steps of one transaction: all instances of a batch are found, held and read at once.

Then each message is taken in memory, and at the end all that came of it is written at once. A
process that uses the database takes each step in a savepoint, and writes it at once; so does every
process when something could not be written, so that only the message that it came of fails.
"""

import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

from django.db import connections, transaction

from inbox.handlers.registry import Handler
from inbox.ledger.ledger import Ledger
from inbox.processes.chain import AliasKey, Chain, Instance, InstanceKey, Written
from inbox.processes.declaring import Process, processes
from inbox.processes.handlers import handler_name, own_name
from inbox.processes.intents import Alias, Answer, Ask, CancelTimer, Emit, Intent, SetTimer
from inbox.processes.saying import Sayings, drafted
from inbox.processes.table import Trigger, TriggerKind
from inbox.processes.taking import Arrival, NotTaken, Taken, take
from inbox.replies.answering import request_type
from outbox.exceptions import ConfigurationError, UndecodableMessage
from outbox.message.context import Context
from outbox.message.envelope import Envelope
from outbox.message.event_types import registry as event_types
from outbox.message.ids import uuid7_text
from outbox.message.origin import made
from outbox.message.process_messages import TIMER, TIMER_NAME, parts_of, process_id
from outbox.message.requests import IN_REPLY_TO
from outbox.replies.settled import Settled, told_by


class Busy(NamedTuple):
    """Another process is taking a step of the instance."""

    key: InstanceKey


class Target(NamedTuple):
    """The instance to which a message belongs, and what it is for it."""

    key: InstanceKey
    arrival: Arrival


class Stepping:
    """Takes the steps of one transaction. `each`: every one by itself, in a savepoint."""

    def __init__(self, ledger: Ledger, *, each: bool = False) -> None:
        self._using = ledger.using
        self._chain = Chain(ledger)
        self._each = each
        self._instances: dict[InstanceKey, Instance] = {}
        self._held: set[InstanceKey] = set()
        self._targets: dict[tuple[str, str, str], Target | UndecodableMessage] = {}
        self._keys: dict[tuple[str, str, str], str] = {}
        self._sayings = Sayings()
        self._written: list[Written] = []
        self._aliases: dict[AliasKey, InstanceKey] = {}
        self._woken: set[tuple[str, str]] = set()
        self.now = datetime.now(UTC)

    # --- Find ---------------------------------------------------------------------------------

    def load(self, messages: Iterable[tuple[Handler, Any, Envelope]]) -> None:
        """Find the instances of what has come, hold those that nobody else holds, and read them."""
        found: dict[tuple[str, str, str], tuple[AliasKey, Arrival]] = {}
        for handler, event, envelope in messages:
            try:
                found[_name(handler, envelope)] = self._belongs(handler, event, envelope)
            except UndecodableMessage as exc:
                self._targets[_name(handler, envelope)] = exc
        others = [alias for alias, _ in found.values() if alias.name]
        known = self._chain.aliased(others) if others else {}
        for name, (alias, arrival) in found.items():
            self._keys[name] = alias.value
            key = InstanceKey(alias.process, alias.value)
            if alias.name:
                key = known.get(alias, InstanceKey(alias.process, ""))
            self._targets[name] = Target(key, arrival)
        keys = {each.key for each in self._targets.values() if isinstance(each, Target)}
        new = {each for each in keys - self._held if each.key}
        if new:
            self._held |= self._chain.hold(new)
            self._instances |= self._chain.newest(new & self._held)

    def _belongs(
        self, handler: Handler, event: Any, envelope: Envelope
    ) -> tuple[AliasKey, Arrival]:
        """Return to which instance a message belongs, and what it is for it."""
        process = _process(handler)
        if not handler.addressed:
            trigger = Trigger(TriggerKind.EVENT, envelope.type, envelope.version)
            source = process.table.key_source(trigger)
            assert source is not None
            key = source.of(process.name, event, envelope)
            arrival = Arrival(trigger=trigger, event=event, message_id=envelope.id)
            return AliasKey(process.name, source.alias, key), arrival
        _, key = parts_of(envelope.attributes)
        if envelope.type == TIMER:
            named = envelope.attributes.get(TIMER_NAME)
            trigger = Trigger(TriggerKind.TIMER, str(named))
            arrival = Arrival(trigger=trigger, event=None, message_id=envelope.id)
            return AliasKey(process.name, "", key), arrival
        settled = told_by(envelope, using=self._using)
        if settled is None:
            raise UndecodableMessage("it tells of the end of no request that was asked here")
        trigger = Trigger(TriggerKind.REPLY, settled.type, end=_end(settled))
        arrival = Arrival(
            trigger=trigger,
            event=settled,
            message_id=envelope.id,
            request_id=str(envelope.attributes.get(IN_REPLY_TO)),
        )
        return AliasKey(process.name, "", key), arrival

    # --- Take ---------------------------------------------------------------------------------

    def key_of(self, handler: Handler, envelope: Envelope) -> str | None:
        """Return by which key a message waits; None if it has none."""
        return self._keys.get(_name(handler, envelope))

    def take(self, handler: Handler, envelope: Envelope) -> Taken | NotTaken | Busy:
        """Take the step that a message leads to, if it is one.

        Raises what the method raises, and what is wrong with what it says: nothing of it remains.
        """
        target = self._targets[_name(handler, envelope)]
        if isinstance(target, UndecodableMessage):
            raise target
        process = _process(handler)
        if target.key.key and target.key not in self._held:
            return Busy(target.key)
        if not (process.uses_database or self._each):
            with _without_database():
                return self._take(process, target, handler, envelope)
        kept = self._instances.get(target.key)
        with self._restored(target.key, kept), transaction.atomic(using=self._using):
            taken = self._take(process, target, handler, envelope)
            self.write()
            return taken

    @contextmanager
    def _restored(self, key: InstanceKey, before: Instance | None) -> Iterator[None]:
        """Forget in memory as well what a savepoint undoes."""
        copy = None if before is None else Instance(before.id, before.step)
        try:
            yield
        except BaseException:
            self._clear()
            if copy is None:
                self._instances.pop(key, None)
            else:
                self._instances[key] = copy
            raise

    def _take(
        self, process: type[Process], target: Target, handler: Handler, envelope: Envelope
    ) -> Taken | NotTaken:
        key, arrival = target
        instance = self._instances.get(key)
        last = instance.step if instance is not None else None
        taken = take(process, key.key, last, arrival, now=self.now, new_id=uuid7_text)
        if isinstance(taken, NotTaken):
            return taken._replace(unknown=not key.key)
        step = taken.step
        opened = []
        if request_type(handler, envelope) is not None:
            step.request, step.request_source = envelope.id, envelope.source
            opened = [(handler, envelope)]
        said = drafted(
            taken.intents,
            context=replace(Context.caused_by(envelope), origin=made("handler", handler.name)),
            process_id=process_id(*key),
            asked=(step.request, step.request_source),
            opened=opened,
        )
        self._note(process, key, arrival, taken, envelope, "" if last is None else last.state)
        self._sayings.add(said)
        return taken

    def _note(
        self,
        process: type[Process],
        key: InstanceKey,
        arrival: Arrival,
        taken: Taken,
        envelope: Envelope,
        source_state: str,
    ) -> None:
        step = taken.step
        instance = self._instances.setdefault(key, Instance())
        instance.step = step
        self._written.append(
            Written(
                key=key,
                source_state=source_state,
                step=step,
                method=taken.method,
                cause=str(arrival.trigger),
                message_id=envelope.id,
                source=envelope.source,
                said=_said(taken.intents),
            )
        )
        for intent in taken.intents:
            if isinstance(intent, Alias):
                self._aliases[AliasKey(process.name, intent.name, intent.value)] = key
        self._woken |= set(_awaiting(process, key.key, step.state, taken.intents))

    # --- Write --------------------------------------------------------------------------------

    def write(self) -> bool:
        """Write all that has come of the steps since the last time; tell whether there was any.

        Raises what the database raises.
        """
        if not self._written:
            return False
        self._chain.write(self._instances, self._written)
        numbers = {
            alias: number
            for alias, key in self._aliases.items()
            if (number := self._instances[key].id) is not None
        }
        self._chain.alias(numbers)
        self._sayings.say(self._using)
        self._chain.wake(self._woken)
        self._clear()
        return True

    def _clear(self) -> None:
        self._sayings = Sayings()
        self._written, self._aliases, self._woken = [], {}, set()


def _process(handler: Handler) -> type[Process]:
    """Return the process of a handler."""
    found = processes.get(handler.process)
    if found is None:
        raise ConfigurationError(f"There is no process {handler.process} any more.")
    return found


def _name(handler: Handler, envelope: Envelope) -> tuple[str, str, str]:
    return handler.name, envelope.id, envelope.source


def _end(settled: Settled) -> str:
    """Return how a request has ended: the type of its first reply, or its outcome."""
    reply = settled.reply
    return settled.state if reply is None else event_types.of_class(type(reply)).name


def _said(intents: Iterable[Intent]) -> str:
    """Return as JSON what a step says: kind, and type or name, of each."""
    said: list[tuple[str, str]] = []
    for intent in intents:
        match intent:
            case Emit():
                said.append(("event", event_types.of_class(type(intent.event)).name))
            case Ask():
                said.append(("request", event_types.of_class(type(intent.request)).name))
            case Answer():
                said.append(("reply", event_types.of_class(type(intent.reply)).name))
            case SetTimer():
                said.append(("timer", intent.name))
            case CancelTimer():
                said.append(("cancelled", intent.name))
            case Alias():
                said.append(("alias", f"{intent.name}={intent.value}"))
    return json.dumps(said)


def _awaiting(
    process: type[Process], key: str, state: str, intents: Iterable[Intent]
) -> Iterator[tuple[str, str]]:
    """Return which receipts may wait for a step: their handlers, and the key that they have."""
    aliases = [each for each in intents if isinstance(each, Alias)]
    for trigger in process.table.triggers:
        if trigger.kind is not TriggerKind.EVENT:
            continue
        if process.table.find(state, trigger) is not None:
            yield handler_name(process, trigger), key
        source = process.table.key_source(trigger)
        for each in aliases:
            if source is not None and source.alias == each.name:
                yield handler_name(process, trigger), each.value
    if any(
        trigger.kind is TriggerKind.REPLY and process.table.find(state, trigger) is not None
        for trigger in process.table.triggers
    ):
        yield own_name(process), key


def _refuse(*_: Any) -> Any:
    raise ConfigurationError(
        "a method of a process has used the database: it is called without a savepoint, so what it "
        "writes could not be undone. Say class …(Process, uses_database=True), or let do.emit() "
        "tell a handler."
    )


@contextmanager
def _without_database() -> Iterator[None]:
    with ExitStack() as stack:
        for connection in connections.all(initialized_only=True):
            stack.enter_context(connection.execute_wrapper(_refuse))
        yield

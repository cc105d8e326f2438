"""Tell senders what the groups here have settled, in the transaction in which they did.

One message for each sender and group, all of a batch in one statement; nothing for messages that do
not ask for it. What came again is acknowledged again, since what was told may have been lost.
"""

import json
import logging
from collections.abc import Collection, Iterable
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import NamedTuple

from django.db import DatabaseError, connections, transaction

from inbox.handlers.registry import Handler, handlers
from inbox.models import Receipt
from inbox.states import State
from outbox.conf import outbox_settings
from outbox.database.failures import is_outage
from outbox.error_text import text_of
from outbox.failpoints import hit
from outbox.message.acknowledgements import MAX_IDS, TYPE, Told, asked_of
from outbox.message.cloudevents import MAX_ATTRIBUTE, bounded
from outbox.message.envelope import Envelope
from outbox.message.ids import uuid7_text
from outbox.producer.writing import append, write_database

logger = logging.getLogger("inbox")

OPEN = (State.RETRYING, State.WAITING)
NOBODY = ""
"""Stands for the handler of what no handler of a group can use."""

_proven: set[str] = set()
"""Databases in which this process has told something: there it needs no savepoint."""


class _Message(NamedTuple):
    """A message that is to be acknowledged, by a group."""

    id: str
    source: str
    address: str
    group: str


class Acknowledgements:
    """What is to be told of a batch or a turn, in the caller's transaction on database `using`."""

    def __init__(self, using: str) -> None:
        self._using = using
        self._states: dict[_Message, dict[str, State | None]] = {}
        self._again: set[_Message] = set()

    def add(self, envelope: Envelope, handler: Handler, state: State | None) -> None:
        """Note what has become of a message with a handler; None if it had a receipt before."""
        self._note(envelope, handler.group, handler.name, state)

    def add_alone(self, envelope: Envelope, handler: Handler, state: State) -> None:
        """Note the same of one handler, beside others of its group that have receipts already."""
        if asked_of(envelope) is None:
            return
        self.add(envelope, handler, state)
        for other in handlers.for_message(envelope, handler.group):
            if other.name != handler.name:
                self._note(envelope, handler.group, other.name, None, again=False)

    def add_unwanted(self, envelope: Envelope, group: str) -> None:
        """Note that a group has a message that none of its handlers can use."""
        self._note(envelope, group, NOBODY, State.DEAD)

    def _note(
        self,
        envelope: Envelope,
        group: str,
        handler: str,
        state: State | None,
        *,
        again: bool = True,
    ) -> None:
        asked = asked_of(envelope)
        if asked is None or group not in asked.groups or len(envelope.id) > MAX_ATTRIBUTE:
            return
        message = _Message(envelope.id, envelope.source, asked.address, group)
        states = self._states.setdefault(message, {})
        if states.get(handler) is None:  # a second copy in a batch says nothing new
            states[handler] = state
            if state is None and again:
                self._again.add(message)

    def tell(self) -> None:
        """Emit what there is to tell, and forget it."""
        if not self._states:
            return
        noted, again = self._states, self._again
        self._states, self._again = {}, set()
        home = write_database()
        if home != self._using:
            logger.error(
                "The outbox is in database %r and the receipts are in %r, so that nothing is "
                "acknowledged: they could not commit together.",
                home,
                self._using,
            )
            return
        self._look_up(noted)
        told: dict[tuple[str, str, str], dict[Told, list[str]]] = {}
        for message, states in noted.items():
            what = told_of([state for state in states.values() if state is not None])
            if what is None or (what is Told.KEPT and message not in again):
                continue
            to = (message.address, message.source, message.group)
            told.setdefault(to, {}).setdefault(what, []).append(message.id)
        if told:
            self._emit([each for to, ids in told.items() for each in _messages(to, ids)])

    def _look_up(self, noted: dict[_Message, dict[str, State | None]]) -> None:
        """Read the states of what had receipts before: one statement, if there is any."""
        unknown = {
            (bounded(message.id), bounded(message.source), handler): states
            for message, states in noted.items()
            for handler, state in states.items()
            if state is None
        }
        if not unknown:
            return
        rows = Receipt.objects.using(self._using).filter(
            message_id__in={message_id for message_id, _, _ in unknown}
        )
        for message_id, source, handler, state in rows.values_list(
            "message_id", "source", "handler", "state"
        ):
            if (states := unknown.get((message_id, source, handler))) is not None:
                states[handler] = State(state)

    def _emit(self, messages: list[Envelope]) -> None:
        connection = connections[self._using]
        proven = self._using in _proven and connection.vendor == "postgresql"
        try:
            with nullcontext() if proven else transaction.atomic(using=self._using):
                append(connection, messages, outbox_settings())
        except DatabaseError as exc:
            # With a savepoint the next time: the receipts must not suffer if it is us who may not.
            _proven.discard(self._using)
            if proven or is_outage(exc):
                raise
            logger.error("Nothing is acknowledged: %s", text_of(exc).strip())
        else:
            _proven.add(self._using)
            hit("inbox.told")


def told_of(states: Collection[State]) -> Told | None:
    """Return what a group tells of a message with its receipts in these states; None if nothing."""
    if not states:
        return None
    if any(state in OPEN for state in states):
        return Told.KEPT
    if State.DEAD in states:
        return Told.DEAD
    return Told.HANDLED if all(state is State.PROCESSED for state in states) else Told.SKIPPED


def _messages(to: tuple[str, str, str], ids: dict[Told, list[str]]) -> Iterable[Envelope]:
    """Return what is told to one sender: one message, unless that were too long."""
    address, source, group = to
    pairs = [(what, each) for what, found in ids.items() for each in found]
    for start in range(0, len(pairs), MAX_IDS):
        about: dict[str, object] = {"group": group, "source": source}
        for what, each in pairs[start : start + MAX_IDS]:
            about.setdefault(what.value, []).append(each)  # type: ignore[attr-defined]
        name = uuid7_text()
        yield Envelope(
            id=name,
            source=outbox_settings().source,
            type=TYPE,
            data=json.dumps(about).encode(),
            topic=address,
            time=datetime.now(UTC),
            correlation_id=name,
        )

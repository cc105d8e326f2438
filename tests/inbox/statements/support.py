"""A sender and a group in one project: what each puts into the log is carried by hand."""

import json
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
from django.conf import settings
from django.db import connection, transaction
from django.test import override_settings

from inbox.conf import inbox_settings
from inbox.handlers.registry import handlers
from inbox.statements import answering
from outbox.conf import outbox_settings
from outbox.extensions import resending
from outbox.message.envelope import Envelope
from outbox.message.requests import address_of, is_address
from outbox.models import Break, Message, ToState
from outbox.producer.writing import append
from outbox.statements import exchange
from outbox.statements.buckets import floor, moment
from outbox.statements.conf import peers
from tests.inbox.support import HAPPENED, receive

GROUP = "g"
HOUR = 3_600_000
NOW = floor(int(time.time() * 1000), HOUR) - 3 * HOUR
"""A time that is over: buckets are closed as soon as anybody looks."""


def id_at(when: int, number: int) -> str:
    """A message id of a time."""
    return str(UUID(int=(when << 80) | (7 << 76) | (2 << 62) | number))


def emitted(*times: int, type_: str = HAPPENED) -> list[Envelope]:
    """Put messages into the log that were made at these times; all in one transaction."""
    before = Message.objects.count()
    made = [
        Envelope(
            id=id_at(when, before + number),
            source=outbox_settings().source,
            type=type_,
            topic=type_,
            key="k",
            data=json.dumps({"key": "k", "number": number}).encode(),
            time=moment(when),
            correlation_id="c",
        )
        for number, when in enumerate(times)
    ]
    with transaction.atomic():
        append(connection, made, outbox_settings())
    return made


@dataclass
class Both:
    """Carries what is in the log to whom it is for."""

    carried: int = 0
    lost: set[str] = field(default_factory=set)
    held: set[str] = field(default_factory=set)
    again: list[str] = field(default_factory=list)

    def unpublished(self, message_ids: Collection[str], *, relay: str, using: str) -> set[str]:
        """See outbox.extensions.resending: what is held has not been published yet."""
        return self.held & set(message_ids)

    def resend(
        self, message_ids: Collection[str], *, topic: str, relay: str, using: str
    ) -> list[str]:
        """See outbox.extensions.resending: hand messages to the group of an address."""
        for row in Message.objects.filter(message_id__in=message_ids).order_by("position"):
            assert topic == address_of(GROUP)
            receive(msgspec.structs.replace(row.as_envelope(), topic=topic), group=GROUP)
            self.again.append(str(row.message_id))
        return list(message_ids)

    def carry(self) -> int:
        """Hand over what has come into the log since; return how many."""
        rows = list(Message.objects.filter(position__gt=self.carried).order_by("position"))
        by_group: dict[str, list[Envelope]] = {}
        for row in rows:
            self.carried = row.position
            message = row.as_envelope()
            groups = {GROUP, inbox_settings().group}
            if is_address(message.topic):
                groups = {each for each in groups if address_of(each) == message.topic}
            for group in groups if message.id not in self.lost else ():
                if handlers.for_message(message, group):
                    by_group.setdefault(group, []).append(message)
        for group, messages in by_group.items():
            receive(*messages, group=group)
        return len(rows)

    def settle(self) -> None:
        """Carry until nobody has anything to say."""
        for _ in range(100):
            if not self.carry():
                return
        raise AssertionError("They talk for ever.")

    def round(self, since: int | None = None) -> None:
        """Run a round, and carry all that follows."""
        peer = peers()[GROUP]
        with transaction.atomic():
            if since is not None:
                exchange.ask_since(GROUP, peer, since, "default")
            exchange.run_round(GROUP, peer, "default")
        self.settle()

    def compare(self, since: int = NOW) -> dict[str, list[str]]:
        """Compare all since a time, twice; return the ids of open breaks by kind."""
        self.round()
        for _ in range(2):
            self.round(since)
        assert not ToState.objects.exists()
        return breaks()


def breaks(state: str = "open") -> dict[str, list[str]]:
    """The ids of breaks by kind."""
    found: dict[str, list[str]] = {}
    for each in Break.objects.filter(state=state).order_by("message_id"):
        found.setdefault(each.kind, []).append(each.message_id)
    return found


@contextmanager
def reconciling(**about: Any) -> Iterator[Both]:
    """A project that states what it sends to group "g", which is here as well, and answers."""
    peer = {"TYPES": ["tests.#"], "GRACE": timedelta(0), **about}
    before = {each.name for each in handlers}
    with override_settings(RECONCILE={GROUP: peer}, INBOX={**_inbox(), "STATEMENTS": True}):
        answering.install()
        both, before_it = Both(), resending._resending
        resending.register_resending(both)
        try:
            yield both
        finally:
            resending._resending = before_it
            for each in list(handlers):
                if each.name not in before:
                    handlers.remove(each.name)


def _inbox() -> dict[str, Any]:
    return dict(getattr(settings, "INBOX", {}))

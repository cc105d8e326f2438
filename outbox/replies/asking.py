"""Ask: write a request and its deadline in the caller's transaction."""

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypedDict, Unpack
from uuid import UUID

import msgspec
from asgiref.sync import sync_to_async
from django.db import ProgrammingError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from outbox.conf import OutboxSettings
from outbox.database.event_loop import no_coroutine
from outbox.database.prepared import counting_cursor
from outbox.database.privileges import add_remedy
from outbox.exceptions import ConfigurationError, InvalidEvent, OtherRequest
from outbox.message import codec
from outbox.message.cloudevents import MAX_ATTRIBUTE, flaw, format_time
from outbox.message.envelope import Envelope
from outbox.message.event_types import EventType
from outbox.message.ids import uuid7_text
from outbox.message.requests import EXPIRED, EXPIRY_TIME, IN_REPLY_TO, REPLY_TO
from outbox.producer.addresses import own_address
from outbox.producer.drafting import Draft, draft_of, resolve
from outbox.producer.emit import require_transaction, write
from outbox.producer.wakeup import wake_on_commit
from outbox.producer.writing import (
    append,
    later_values_of,
    values_of,
    write_database,
    write_some_later,
)
from outbox.replies import sql
from outbox.replies.asked import Asked
from outbox.replies.declaring import check_within
from outbox.signatures import no_option

if TYPE_CHECKING:
    from outbox.models import Request

MAX_REPLIES = 10_000


class AskOptions(TypedDict, total=False):
    """The options of ask() that are those of emit()."""

    key: object
    subject: object
    version: int | None
    attributes: Mapping[str, str | int | bool]
    correlation_id: str | None
    causation_id: str | None


_OPTIONS = (
    *("within", "replies", "idempotency_key", "owner", "callback_url", "using"),
    *AskOptions.__annotations__,
)


def ask(
    request: object,
    payload: Any = None,
    *,
    within: timedelta | None = None,
    replies: int = 1,
    idempotency_key: str = "",
    owner: str = "",
    callback_url: str = "",
    using: str | None = None,
    **options: Unpack[AskOptions],
) -> Asked:
    """Ask in the running transaction: the request is sent if, and only if, that commits.

    asked = outbox.ask(Quote(basket_id=42))
    ...                                    # after the commit
    answer = asked.result(timeout=3)

    `within` is how long an answer counts, by default what the request's declaration says.
    `replies` is how many are wanted, of as many groups: the request is settled with so many, or at
    its deadline.
    `idempotency_key`: asked again by the same `owner` with the same key, it is the request that
    there is already, also if two ask at once. `callback_url` is where its end is POSTed to, signed
    with the secrets of the `owner`, by a relay with a WebhookBroker. The other options are those of
    emit().

    Returns the request, which a waiting caller, a page that polls and a handler all read. Raises
    what emit() raises; InvalidEvent for an event that is no request, a time that is none or a URL
    that cannot be called; ConfigurationError if there is no secret to sign with; and OtherRequest
    for an idempotency key that was used for something else.
    """
    if unknown := [name for name in options if name not in AskOptions.__annotations__]:
        raise TypeError(no_option("ask", unknown[0], _OPTIONS))
    asked, _ = ask_or_find(
        request,
        payload,
        within=within,
        replies=replies,
        idempotency_key=idempotency_key,
        owner=owner,
        callback_url=callback_url,
        using=using,
        options=options,
    )
    return asked


def ask_or_find(
    request: object,
    payload: Any = None,
    *,
    within: timedelta | None = None,
    replies: int = 1,
    idempotency_key: str = "",
    owner: str = "",
    callback_url: str = "",
    using: str | None = None,
    options: AskOptions | None = None,
    message_id: str = "",
) -> tuple[Asked, bool]:
    """Do what ask() does; tell as well whether the request is new, or was there already.

    `message_id` is the id of a new one, if it was chosen before.
    """
    draft = draft_of("ask", request, payload, options or {})  # type: ignore[arg-type]
    with no_coroutine("ask()", "aask()"):
        event_type, asked_for = resolve(draft)
        if not event_type.is_request:
            raise InvalidEvent(
                f"{event_type} is no request: declare it with @outbox.request(..., reply=...), or "
                "emit() it."
            )
        length = event_type.within if within is None else within
        try:
            check_within(str(event_type), length)
        except ConfigurationError as exc:
            raise InvalidEvent(str(exc)) from None
        assert length is not None
        if type(replies) is not int or not 1 <= replies <= MAX_REPLIES:
            raise InvalidEvent(f"replies is 1 to {MAX_REPLIES:,}, not {replies!r}")
        for name, value in (("owner", owner), ("idempotency_key", idempotency_key)):
            if not isinstance(value, str):
                raise InvalidEvent(f"{name} is a string, not {value!r:.60}")
            if value and (problem := flaw(value, MAX_ATTRIBUTE)):
                raise InvalidEvent(f"{name} {problem}")
        if callback_url:
            from outbox.replies.callbacks import check_url  # noqa: PLC0415 - models, as below

            check_url(callback_url, owner)
        alias, home = using or write_database(), write_database()
        if alias != home:
            raise InvalidEvent(
                f"ask() is for the database {home!r}, in which replies are taken, and not for "
                f"{alias!r}: nobody would settle the request there."
            )
        require_transaction(connections[alias], "ask()")
        once = _once(owner, event_type, idempotency_key) if idempotency_key else None
        fingerprint = _fingerprint(event_type, asked_for, replies, callback_url) if once else ""
        if found := _asked_before(once, fingerprint, alias):
            return found, False
        asking = _Asking(
            draft=draft,
            within=length,
            replies=replies,
            owner=owner,
            once=once,
            fingerprint=fingerprint,
            callback_url=callback_url,
            message_id=message_id,
        )
        return _ask(asking, alias)


async def aask(
    request: object,
    payload: Any = None,
    *,
    within: timedelta | None = None,
    replies: int = 1,
    idempotency_key: str = "",
    owner: str = "",
    callback_url: str = "",
    using: str | None = None,
    **options: Unpack[AskOptions],
) -> Asked:
    """Run ask() in the thread that holds this task's database connections."""
    return await sync_to_async(ask)(
        request,
        payload,
        within=within,
        replies=replies,
        idempotency_key=idempotency_key,
        owner=owner,
        callback_url=callback_url,
        using=using,
        **options,
    )


def _ask(asking: "_Asking", using: str) -> tuple[Asked, bool]:
    while True:
        with suppress(_AskedBefore):
            return asking.write(using), True
        if found := _asked_before(asking.once, asking.fingerprint, using):
            return found, False  # somebody else was quicker


class _AskedBefore(Exception):
    """The idempotency key is taken, so nothing was written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asking:
    """A request that is about to be written."""

    draft: Draft
    within: timedelta
    replies: int
    owner: str
    once: str | None
    fingerprint: str
    callback_url: str
    message_id: str

    def write(self, using: str) -> Asked:
        """Write the request; raise _AskedBefore if its idempotency key is taken."""
        address = own_address()
        [envelope] = write(
            [self.draft],
            using,
            finish=partial(_addressed, address, self.within, self.message_id),
            into=partial(self._insert, address),
        )
        return Asked(id=envelope.id, using=using)

    def _insert(
        self,
        address: str,
        connection: BaseDatabaseWrapper,
        envelopes: list[Envelope],
        conf: OutboxSettings,
    ) -> None:
        """Write message, deadline and row, or none of them."""
        [envelope] = envelopes
        expiry = _expiry(envelope, address)
        if connection.vendor == "postgresql":
            self._insert_at_once(connection, envelope, expiry, conf)
        else:
            self._insert_each(connection, envelope, expiry, conf)
        wake_on_commit(connection.alias)

    def _insert_at_once(
        self,
        connection: BaseDatabaseWrapper,
        envelope: Envelope,
        expiry: Envelope,
        conf: OutboxSettings,
    ) -> None:
        row = self._row(envelope, expiry)
        columns = {
            field.column: field.get_db_prep_save(getattr(row, field.attname), connection)
            for field in row._meta.concrete_fields
            if not field.primary_key and field.name not in ("asked_at", "deadline")
        }
        values: list[Any] = [
            self.within,
            *columns.values(),
            *values_of(envelope, conf),
            *later_values_of(connection, expiry, conf),
        ]
        with counting_cursor(connection) as cursor:
            try:
                cursor.execute(sql.ask(tuple(columns)), values)
            except ProgrammingError as exc:
                add_remedy(exc, "emit", connection.alias)
                raise
            if not cursor.rowcount:
                raise _AskedBefore

    def _insert_each(
        self,
        connection: BaseDatabaseWrapper,
        envelope: Envelope,
        expiry: Envelope,
        conf: OutboxSettings,
    ) -> None:
        row = self._row(envelope, expiry)
        with transaction.atomic(using=connection.alias):
            append(connection, [envelope], conf)
            # By the clock of the database, which is that of whoever delivers it.
            [later] = write_some_later(connection, [expiry], [self.within], conf)
            assert later.time is not None
            row.asked_at, row.deadline = later.time - self.within, later.time
            row.save(using=connection.alias, force_insert=True)

    def _row(self, envelope: Envelope, expiry: Envelope) -> "Request":
        """Return the request, but for its times."""
        from outbox.models import Request  # noqa: PLC0415 - models are not loaded at import

        return Request(
            message_id=UUID(envelope.id),
            source=envelope.source,
            topic=envelope.topic,
            key=envelope.key,
            type=envelope.type,
            version=envelope.version,
            correlation_id=envelope.correlation_id or envelope.id,
            owner=self.owner,
            wanted=self.replies,
            expiry_id=UUID(expiry.id),
            once=self.once,
            fingerprint=self.fingerprint,
            callback_url=self.callback_url,
        )


def _addressed(address: str, within: timedelta, message_id: str, envelope: Envelope) -> Envelope:
    """Return a request with where its reply is to go, and about until when."""
    assert envelope.time is not None
    own = {REPLY_TO: address, EXPIRY_TIME: format_time(envelope.time + within)}
    return msgspec.structs.replace(
        envelope,
        id=message_id or envelope.id,
        attributes={**envelope.attributes, **own},
    )


def _expiry(request: Envelope, address: str) -> Envelope:
    """Return what this service sends to itself, to be delivered at the deadline."""
    return Envelope(
        id=uuid7_text(),
        source=request.source,
        type=EXPIRED,
        data=b"{}",
        topic=address,
        time=request.time,
        correlation_id=request.correlation_id,
        causation_id=request.id,
        attributes={IN_REPLY_TO: request.id},
    )


def _once(owner: str, event_type: EventType, key: str) -> str:
    """Return what is unique of an idempotency key: it is one owner's, for one type of request."""
    return hashlib.sha256(json.dumps([owner, event_type.name, key]).encode()).hexdigest()


def _fingerprint(event_type: EventType, payload: Any, replies: int, callback_url: str) -> str:
    told = [callback_url] if callback_url else []
    about = json.dumps([event_type.version, replies, *told]).encode()
    return hashlib.sha256(about + codec.encode(payload, event_type)).hexdigest()


def _asked_before(once: str | None, fingerprint: str, using: str) -> Asked | None:
    """Return the request that an idempotency key stands for already, if it does."""
    if once is None:
        return None
    from outbox.models import Request  # noqa: PLC0415 - models are not loaded at import

    found = Request.objects.using(using).filter(once=once).first()
    if found is None:
        return None
    if found.fingerprint != fingerprint:
        raise OtherRequest(
            f"This idempotency key stands for request {found.message_id}, which says something "
            "else. Use another key for another request."
        )
    return Asked(id=str(found.message_id), using=using)

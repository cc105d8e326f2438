"""Models that record events and emit them when they are saved."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Unpack

from django.db import models, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from msgspec.structs import replace

from outbox.database import commit_hooks
from outbox.exceptions import ConfigurationError, InvalidEvent
from outbox.message.envelope import Envelope
from outbox.producer.drafting import Draft, EmitOptions, draft_of
from outbox.producer.emit import emit_many
from outbox.producer.writing import in_transaction


class EmitsEvents:
    """Mix into a model, left of models.Model: record events, save, and both commit together.

    class Order(outbox.EmitsEvents, models.Model):
        def place(self):
            self.status = "placed"
            self.record(OrderPlaced(order_id=self.pk, total=self.total))

    Recorded events are emitted by the next save() or delete() of the instance, on the same
    database, in one transaction with it. If that transaction or savepoint rolls back they stay
    recorded; once they are emitted they are not emitted again. What goes past save() and
    delete(), such as QuerySet.update() and bulk_create(), emits nothing: use emit_many() there.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        mro = cls.__mro__
        if models.Model in mro and mro.index(models.Model) < mro.index(EmitsEvents):
            raise ConfigurationError(
                f"{cls.__module__}.{cls.__qualname__}: EmitsEvents must stand to the left of "
                "models.Model, whose save() would emit nothing."
            )

    def record(self, event: object, payload: Any = None, **options: Unpack[EmitOptions]) -> None:
        """Remember an event until this instance is saved or deleted.

        Takes what emit() takes. A function of no arguments is called for the event when the row
        has been written, which is when a new instance knows its primary key; or right before it
        is deleted, while the instance still knows it.
        """
        self._recorded.append(draft_of("record", event, payload, options))

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save the instance and emit its recorded events, or neither."""
        # Positional arguments of save(): force_insert, force_update, using, update_fields.
        using = kwargs.get("using") or (args[2] if len(args) > 2 else None)
        with self._emitting(using):
            super().save(*args, **kwargs)  # type: ignore[misc]

    save.alters_data = True  # type: ignore[attr-defined]

    def delete(self, *args: Any, **kwargs: Any) -> Any:
        """Delete the instance and emit its recorded events, or neither."""
        using = kwargs.get("using") or (args[0] if args else None)
        with self._emitting(using, deleting=True):
            return super().delete(*args, **kwargs)  # type: ignore[misc]

    delete.alters_data = True  # type: ignore[attr-defined]

    def __getstate__(self) -> dict[str, Any]:
        """Leave the events with this instance: a copy must not emit them again."""
        state: dict[str, Any] = super().__getstate__()  # type: ignore[assignment]
        return {
            name: value
            for name, value in state.items()
            if name not in {"_recorded_events", "_emitted_events"}
        }

    @property
    def _recorded(self) -> list[Draft]:
        # Not set in __init__: instances also come from from_db(), copies and unpickling.
        recorded: list[Draft] = self.__dict__.setdefault("_recorded_events", [])
        return recorded

    @contextmanager
    def _emitting(self, using: str | None, *, deleting: bool = False) -> Iterator[None]:
        """Emit what is recorded, in one transaction with what the block writes."""
        assert isinstance(self, models.Model)
        using = using or router.db_for_write(type(self), instance=self)
        self._return_rolled_back(using)
        nameless = self.pk is None and not all(_is_function(each.event) for each in self._recorded)
        with self._transaction(using):
            # Before a delete, while the row is there to be looked at.
            early = {id(draft): _called(draft) for draft in self._recorded} if deleting else {}
            yield
            # Of what is still recorded, since a signal handler may have saved in between, and
            # walking the live list, since functions may record as well.
            with transaction.mark_for_rollback_on_error(using=using):
                drafts = [early.get(id(draft)) or _called(draft) for draft in self._recorded]
                if drafts:
                    with _new_row_explained(type(self).__name__, nameless):
                        messages = emit_many(drafts, using=using)
                    self._await_commit(using, messages)

    def _transaction(self, using: str) -> AbstractContextManager[None]:
        """Return a transaction for the row and its events.

        Needed even with nothing recorded, since signal handlers may record while the row is
        written. In the caller's own, a savepoint is only for what may have to be undone alone.
        """
        connection = transaction.get_connection(using)
        if connection.in_atomic_block and in_transaction(connection) and not self._recorded:
            return nullcontext()
        return transaction.atomic(using=using)

    # Between emit and commit the events belong to the transaction. Django drops the commit
    # hooks of a transaction or savepoint that rolls back: if ours has neither run nor is still
    # registered, the events were not emitted after all. Unless it is still to run, after the hook
    # that saves us right now, or another hook failed: that ends the running of hooks. So the log
    # has the last word.

    def _await_commit(self, using: str, messages: list[Envelope]) -> None:
        drafts, self.__dict__["_recorded_events"] = self._recorded, []
        waiting: list[_Emitted] = self.__dict__.setdefault("_emitted_events", [])

        def committed() -> None:
            # An earlier hook may have saved us, and looked into the log already.
            with suppress(ValueError):
                waiting.remove(emitted)

        connection = transaction.get_connection(using)
        emitted = _Emitted(using, connection, committed, drafts, messages[0].id)
        waiting.append(emitted)
        transaction.on_commit(committed, using=using, robust=True)

    def _return_rolled_back(self, using: str) -> None:
        waiting: list[_Emitted] = self.__dict__.get("_emitted_events", [])
        returned: list[Draft] = []
        for emitted in list(waiting):
            if emitted.using == using and not emitted.awaits_commit:
                emitted.committed()
                if not _is_in_log(emitted.message_id, using):
                    returned += emitted.drafts
        if returned:
            self.__dict__["_recorded_events"] = [*returned, *self._recorded]


def drafts_of(instance: EmitsEvents) -> list[Draft]:
    """Return what an instance would emit if it were saved now."""
    return [_called(draft) for draft in instance._recorded]


# Migrations name the bases of a model by their modules: this one is ours for good.
EmitsEvents.__module__ = "outbox"


@dataclass(frozen=True, slots=True, eq=False)
class _Emitted:
    """Events that belong to a transaction until it ends."""

    using: str
    connection: BaseDatabaseWrapper
    committed: Callable[[], None]
    drafts: list[Draft]
    message_id: str

    @property
    def awaits_commit(self) -> bool:
        """Whether the transaction is still open, on whatever thread's connection."""
        return any(each is self.committed for each in commit_hooks.waiting(self.connection))


def _called(draft: Draft) -> Draft:
    if _is_function(draft.event):
        return replace(draft, event=draft.event())  # type: ignore[operator]
    return draft


def _is_function(event: object) -> bool:
    return inspect.isroutine(event) or isinstance(event, partial)


@contextmanager
def _new_row_explained(model: str, nameless: bool) -> Iterator[None]:
    """Say of an event that lacks something, beside a new row, that it may be the row's key."""
    try:
        yield
    except InvalidEvent as exc:
        if not nameless or type(exc) is not InvalidEvent:
            raise
        raise InvalidEvent(
            f"{exc} A new {model} has no primary key before it is saved. If the event takes it, "
            f"record a function, which is called once the row is written: record(lambda: …); or "
            "save first."
        ) from exc


def _is_in_log(message_id: str, using: str) -> bool:
    from outbox.models import Message, Scheduled  # noqa: PLC0415 - models are not loaded when this is imported

    # In this order: between the two questions a message can only go from the first to the second.
    return any(
        model._default_manager.using(using).filter(message_id=message_id).exists()
        for model in (Scheduled, Message)
    )

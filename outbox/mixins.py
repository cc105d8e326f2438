"""Models that record events and emit them when they are saved."""

import inspect
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

from django.db import models, router, transaction
from msgspec.structs import replace

from outbox.emitting import Draft, emit_many, in_transaction
from outbox.envelope import Envelope
from outbox.exceptions import ConfigurationError


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

    def record(self, event: object, payload: Any = None, **options: Any) -> None:
        """Remember an event until this instance is saved or deleted.

        Takes what emit() takes. A function of no arguments is called for the event when the row
        has been written, which is when a new instance knows its primary key; or right before it
        is deleted, while the instance still knows it.
        """
        self._recorded.append(Draft(event=event, payload=payload, **options))

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
        with self._transaction(using):
            # Before a delete, while the row is there to be looked at.
            early = {id(draft): _called(draft) for draft in self._recorded} if deleting else {}
            yield
            # Of what is still recorded, since a signal handler may have saved in between, and
            # walking the live list, since functions may record as well.
            with transaction.mark_for_rollback_on_error(using=using):
                drafts = [early.get(id(draft)) or _called(draft) for draft in self._recorded]
                if drafts:
                    self._await_commit(using, emit_many(drafts, using=using))

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
    # registered, the events were not emitted after all. Unless another hook failed: that ends
    # the running of hooks. So the log has the last word.

    def _await_commit(self, using: str, messages: list[Envelope]) -> None:
        emitted, self.__dict__["_recorded_events"] = self._recorded, []
        waiting = self.__dict__.setdefault("_emitted_events", [])

        def committed() -> None:
            waiting.remove(entry)

        entry = (using, committed, emitted, messages[0].id)
        waiting.append(entry)
        transaction.on_commit(committed, using=using)

    def _return_rolled_back(self, using: str) -> None:
        waiting = self.__dict__.get("_emitted_events")
        if not waiting:
            return
        hooks = [entry[1] for entry in transaction.get_connection(using).run_on_commit]
        returned: list[Draft] = []
        for entry in list(waiting):
            alias, committed, emitted, message_id = entry
            if alias == using and committed not in hooks:
                waiting.remove(entry)
                if not _is_in_log(message_id, using):
                    returned += emitted
        self.__dict__["_recorded_events"] = [*returned, *self._recorded]


def _called(draft: Draft) -> Draft:
    if inspect.isroutine(draft.event) or isinstance(draft.event, partial):
        return replace(draft, event=draft.event())
    return draft


def _is_in_log(message_id: str, using: str) -> bool:
    from outbox.models import Message, Scheduled  # noqa: PLC0415 - models are not loaded when this is imported

    # In this order: between the two questions a message can only go from the first to the second.
    return any(
        model._default_manager.using(using).filter(message_id=message_id).exists()
        for model in (Scheduled, Message)
    )

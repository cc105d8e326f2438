"""Models that record events and emit them when they are saved."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from django.db import models, router, transaction

from outbox.emitting import Draft, emit_many


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

    def record(self, event: object, payload: Any = None, **options: Any) -> None:
        """Remember an event until this instance is saved or deleted.

        Takes what emit() takes. A function of no arguments is called when the row has been
        written, which is when a new instance knows its primary key.
        """
        self._recorded.append((event, payload, options))

    def save(self, *args: Any, **kwargs: Any) -> None:
        # Positional arguments of save(): force_insert, force_update, using, update_fields.
        using = kwargs.get("using") or (args[2] if len(args) > 2 else None)
        self._write_and_emit(using, lambda: super(EmitsEvents, self).save(*args, **kwargs))  # type: ignore[misc]

    save.alters_data = True  # type: ignore[attr-defined]

    def delete(self, *args: Any, **kwargs: Any) -> Any:
        using = kwargs.get("using") or (args[0] if args else None)
        return self._write_and_emit(
            using,
            lambda: super(EmitsEvents, self).delete(*args, **kwargs),  # type: ignore[misc]
        )

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
    def _recorded(self) -> list[tuple[object, Any, dict[str, Any]]]:
        # Not set in __init__: instances also come from from_db(), copies and unpickling.
        recorded: list[tuple[object, Any, dict[str, Any]]] = self.__dict__.setdefault(
            "_recorded_events", []
        )
        return recorded

    def _write_and_emit(self, using: str | None, write: Callable[[], Any]) -> Any:
        assert isinstance(self, models.Model)
        using = using or router.db_for_write(type(self), instance=self)
        self._return_rolled_back(using)
        # Always a transaction, since signal handlers may record while the row is written; a
        # savepoint only where something could have to be undone.
        with transaction.atomic(using=using, savepoint=bool(self._recorded)):
            result = write()
            if not self._recorded:
                return result
            drafts = [self._draft(*entry) for entry in self._recorded]
            emit_many(drafts, using=using)
            self._await_commit(using)
        return result

    @staticmethod
    def _draft(event: object, payload: Any, options: dict[str, Any]) -> Draft:
        if inspect.isroutine(event) or isinstance(event, partial):
            event = event()
        return Draft(event=event, payload=payload, **options)

    # Between emit and commit the events belong to the transaction. Django drops the commit
    # hooks of a transaction or savepoint that rolls back: if ours has neither run nor is still
    # registered, the events were not emitted after all.

    def _await_commit(self, using: str) -> None:
        emitted, self.__dict__["_recorded_events"] = self._recorded, []
        waiting = self.__dict__.setdefault("_emitted_events", [])

        def committed() -> None:
            waiting.remove(entry)

        entry = (using, committed, emitted)
        waiting.append(entry)
        connection = transaction.get_connection(using)
        if connection.in_atomic_block:
            transaction.on_commit(committed, using=using)

    def _return_rolled_back(self, using: str) -> None:
        waiting = self.__dict__.get("_emitted_events")
        if not waiting:
            return
        hooks = [entry[1] for entry in transaction.get_connection(using).run_on_commit]
        for entry in list(waiting):
            alias, committed, emitted = entry
            if alias == using and committed not in hooks:
                waiting.remove(entry)
                self.__dict__["_recorded_events"] = [*emitted, *self._recorded]

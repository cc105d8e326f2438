"""The Celery app whose tasks go through the outbox, those sent by name as well."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

from asgiref.sync import sync_to_async
from celery import Celery
from django.utils.functional import cached_property

from outbox.celery import apps_in_use
from outbox.celery.keys import key_of_call
from outbox.celery.policy import delivery, sending, with_context
from outbox.celery.producer import OutboxProducer
from outbox.celery.results import OutboxGroupResult, OutboxResult
from outbox.celery.task import OutboxTask


class OutboxCelery(Celery):
    """Celery with OutboxTask as the class of its tasks, and send_task() through the outbox.

    app = OutboxCelery("shop")

    `outbox_using` is the alias of the database for tasks that name none; by default routers choose.
    """

    task_cls = OutboxTask  # type: ignore[assignment]
    outbox_using: str | None = None

    def __init__(self, *args: Any, outbox_using: str | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if outbox_using is not None:
            self.outbox_using = outbox_using
        apps_in_use.apps.add(self)

    def send_task(
        self,
        name: str,
        args: Any = None,
        kwargs: Any = None,
        *others: Any,
        outbox: bool | None = None,
        outbox_key: object = None,
        **options: Any,
    ) -> Any:
        """Send a task by name, into the outbox where there is a transaction.

        Takes all options of Celery's, and `outbox` and `outbox_key` for this call. A registered
        task's own `outbox`, `outbox_using` and `outbox_key` count.
        """
        task = options.get("task_type") or self._tasks.get(name)  # type: ignore[attr-defined]
        if headers := with_context(options.get("headers")):
            options["headers"] = headers
        producer = options.pop("producer", None) or options.pop("publisher", None)
        wanted = getattr(task, "outbox", True)
        if isinstance(producer, OutboxProducer):  # chosen by the task, which knows its call
            wanted = True
            outbox_key = producer.key if outbox_key is None else outbox_key
        wanted = wanted if outbox is None else outbox
        with sending(
            self,
            using=getattr(task, "outbox_using", None) or self.outbox_using,
            outbox=wanted and not options.get("connection"),
            producer=producer,
            key=partial(key_of_call, task, outbox_key, args, kwargs),
        ) as chosen:
            options["producer"] = chosen
            return super().send_task(name, args, kwargs, *others, **options)

    async def asend_task(self, *args: Any, **kwargs: Any) -> Any:
        """Run send_task() in the thread that holds this task's database connections."""
        return await sync_to_async(self.send_task)(*args, **kwargs)

    @cached_property
    def AsyncResult(self) -> Any:  # noqa: N802 - Celery's name
        """The class of results, which refuse to wait within the transaction that sends the task."""
        return self.subclass_with_self(OutboxResult, name="AsyncResult")

    @cached_property
    def GroupResult(self) -> Any:  # noqa: N802 - Celery's name
        """The class of results of groups, which do the same."""
        return self.subclass_with_self(OutboxGroupResult, name="GroupResult")

    def producer_or_acquire(self, producer: Any = None) -> AbstractContextManager[Any]:  # type: ignore[override]
        """Return a context with the given producer, or with the one that is right here.

        A group takes one for all its members: where each would have a transaction of its own, they
        get one together.
        """
        if producer is not None:
            return super().producer_or_acquire(producer)
        return self._producer()

    @contextmanager
    def _producer(self) -> Iterator[Any]:
        with (
            delivery(self, using=self.outbox_using, outbox=True) as chosen,
            super().producer_or_acquire(chosen) as producer,
        ):
            yield producer

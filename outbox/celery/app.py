"""The Celery app whose tasks go through the outbox, those sent by name as well."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from celery import Celery

from outbox.celery import known
from outbox.celery.policy import delivery, sending, with_context
from outbox.celery.producer import OutboxProducer
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
        known.apps.add(self)

    def send_task(self, name: str, *args: Any, outbox: bool | None = None, **options: Any) -> Any:
        """Send a task by name, into the outbox where there is a transaction.

        Takes all options of Celery's, and `outbox` for this call. A registered task's own
        `outbox` and `outbox_using` count.
        """
        task = options.get("task_type") or self._tasks.get(name)  # type: ignore[attr-defined]
        wanted = getattr(task, "outbox", True) if outbox is None else outbox
        if headers := with_context(options.get("headers")):
            options["headers"] = headers
        producer = options.pop("producer", None) or options.pop("publisher", None)
        wanted |= isinstance(producer, OutboxProducer)  # chosen by the task, which knows its call
        with sending(
            self,
            using=getattr(task, "outbox_using", None) or self.outbox_using,
            outbox=wanted and not options.get("connection"),
            producer=producer,
        ) as chosen:
            return super().send_task(name, *args, producer=chosen, **options)  # type: ignore[misc]

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

"""The base class of tasks that go through the outbox."""

from functools import partial
from typing import Any, ClassVar

from asgiref.sync import sync_to_async
from celery.contrib.django.task import DjangoTask
from django.apps import apps
from django.db import connections

from outbox.celery import apps_in_use
from outbox.celery.keys import Key, key_of_call
from outbox.celery.policy import sending, straight, with_context
from outbox.producer.writing import in_transaction, write_database


class OutboxTask(DjangoTask):  # type: ignore[type-arg]
    """A task whose message commits with the data: the relay sends it, if and only if you commit.

    delay(), apply_async(), signatures and whole canvases write into the outbox within a
    transaction; outside, OUTBOX["CELERY_OUTSIDE"] says what they do. `outbox = False` on a task, or
    as an option of one call, goes straight to Celery's broker. `outbox_using` is the alias of the
    database; by default that of the app, if it has one, else routers choose.

    Tasks for one queue reach it in the order in which they were sent. `outbox_key` on a task, a
    format of its arguments such as "{order_id}" or a function of them, makes that an order of each
    key; as an option of one call it is the key itself.
    """

    abstract = True
    outbox: ClassVar[bool] = True
    outbox_using: ClassVar[str | None] = None
    outbox_key: ClassVar[Key | None] = None

    @classmethod
    def on_bound(cls, app: Any) -> None:
        """Note the app, for the system checks."""
        apps_in_use.apps.add(app)
        super().on_bound(app)

    def apply_async(
        self,
        args: Any = None,
        kwargs: Any = None,
        task_id: str | None = None,
        producer: Any = None,
        link: Any = None,
        link_error: Any = None,
        shadow: str | None = None,
        *,
        outbox: bool | None = None,
        outbox_key: object = None,
        **options: Any,
    ) -> Any:
        """Send the task, into the outbox where there is a transaction.

        Takes all options of Celery's, and `outbox` and `outbox_key` for this call; a given
        `connection` is used, a given `producer` only outside transactions.
        """
        options |= {"args": args, "kwargs": kwargs, "task_id": task_id, "shadow": shadow}
        options |= {"link": link, "link_error": link_error}
        if self.app.conf.task_always_eager:
            return super().apply_async(producer=producer, **options)
        if headers := with_context(options.get("headers")):
            options["headers"] = headers
        producer = producer or options.pop("publisher", None)
        wanted = self.outbox if outbox is None else outbox
        with sending(
            self.app,
            using=self._outbox_database(),
            outbox=wanted and not options.get("connection"),
            producer=producer,
            key=partial(key_of_call, self, outbox_key, args, kwargs),
        ) as chosen:
            return super().apply_async(producer=chosen, **options)

    async def adelay(self, *args: Any, **kwargs: Any) -> Any:
        """Run delay() in the thread that holds this task's database connections."""
        return await sync_to_async(self.delay)(*args, **kwargs)

    async def aapply_async(self, *args: Any, **options: Any) -> Any:
        """Run apply_async() in the thread that holds this task's database connections."""
        return await sync_to_async(self.apply_async)(*args, **options)

    def delay_on_commit(self, *args: Any, **kwargs: Any) -> None:  # type: ignore[override]
        """Call delay() once the transaction commits; through the outbox it cannot get lost."""
        self.apply_async_on_commit(args, kwargs)

    def apply_async_on_commit(self, *args: Any, **kwargs: Any) -> None:  # type: ignore[override]
        """Call apply_async() once the transaction commits, as delay_on_commit() does."""
        wanted = kwargs.get("outbox", self.outbox) and not self.app.conf.task_always_eager
        wanted = wanted and apps.models_ready
        if wanted and in_transaction(connections[self._outbox_database() or write_database()]):
            self.apply_async(*args, **kwargs)
        else:
            super().apply_async_on_commit(*args, **kwargs)

    def _outbox_database(self) -> str | None:
        """Return the alias that the task names, or its app; None where routers choose."""
        return self.outbox_using or getattr(self.app, "outbox_using", None)

    def retry(self, *args: Any, **kwargs: Any) -> Any:
        """Retry the task; see Celery. Never through the outbox.

        A retry is the worker's answer to a failure. The exception that it raises rolls back the
        transaction around it, and a message in the outbox would be gone with it.
        """
        with straight():
            return super().retry(*args, **kwargs)

    def on_replace(self, sig: Any) -> Any:
        """Send what replaces this task, straight to the broker, for the same reason."""
        with straight():
            return super().on_replace(sig)

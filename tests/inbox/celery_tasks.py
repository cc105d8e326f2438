"""Tasks for the tests: each leaves a row of the test app behind."""

from typing import Any

from celery import Task

import outbox
from inbox.celery import idempotent
from tests.inbox.celery_app import app
from tests.testapp.events import Happened
from tests.testapp.models import Effect


def effect(name: str, number: int, message: str = "") -> int:
    return Effect.objects.create(key="k", number=number, message_id=message, handler=name).pk


@app.task
@idempotent
def once(number: int) -> int:
    """Return the row's number, which no second run could."""
    return effect("once", number)


@app.task
@idempotent
def nothing(number: int) -> None:
    effect("nothing", number)


@app.task
@idempotent
def unkeepable(number: int) -> object:
    effect("unkeepable", number)
    return object()


@app.task(bind=True)
@idempotent(key="order-{number}")
def keyed(self: Any, number: int, note: str = "") -> int:
    return effect("keyed", number, self.request.id)


@app.task(bind=True)
@idempotent(key=lambda number, note="": (number, note))
def keyed_by_function(self: Any, number: int, note: str = "") -> int:
    return effect("keyed_by_function", number, self.request.id)


@app.task(bind=True, max_retries=2, default_retry_delay=0)
@idempotent
def mended(self: Any, number: int, fails: int = 1) -> int:
    """Fail so many times, with an effect each time, and ask for another try."""
    pk = effect("mended", number)
    if self.request.retries < fails:
        raise self.retry()
    return pk


@app.task(bind=True, max_retries=2, default_retry_delay=0)
@idempotent
def quietly_mended(self: Any, number: int) -> int:
    pk = effect("quietly_mended", number)
    if not self.request.retries:
        self.retry(throw=False)
    return pk


@app.task(bind=True, autoretry_for=(ValueError,), max_retries=2, default_retry_delay=0)
@idempotent
def autoretried(self: Any, number: int, fails: int = 1) -> int:
    pk = effect("autoretried", number)
    if self.request.retries < fails:
        raise ValueError("no luck")
    return pk


class Counting(Task):  # type: ignore[type-arg]
    """A base of somebody's own."""

    abstract = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        effect("called", 0)
        return super().__call__(*args, **kwargs)


@app.task(base=Counting)
@idempotent
def based(number: int) -> int:
    return effect("based", number)


class Recording(Task):  # type: ignore[type-arg]
    name = "tests.recording"

    @idempotent
    def run(self, number: int) -> int:
        return effect(self.name, number)


class Extended(Recording):
    name = "tests.extended"

    @idempotent
    def run(self, number: int) -> int:
        return super().run(number) + 0


recording = app.register_task(Recording())
extended = app.register_task(Extended())


@app.task(bind=True)
@idempotent
def raising(self: Any, number: int, what: str, times: int = 1) -> int:
    """Leave an effect and raise one of Celery's own, the first times."""
    from celery import exceptions  # noqa: PLC0415 - by name

    pk = effect("raising", number)
    if Attempts.count(self.request.id) <= times:
        raise getattr(exceptions, what)("as the test asked")
    return pk


class Attempts:
    """How often tasks were called, beyond all transactions of this process."""

    counts: dict[str, int] = {}

    @classmethod
    def count(cls, task: str) -> int:
        cls.counts[task] = cls.counts.get(task, 0) + 1
        return cls.counts[task]


@app.task
@idempotent
def told(number: int) -> str:
    """Emit an event."""
    return outbox.emit(Happened(key="k", number=number)).id


@app.task(bind=True)
def remember(self: Any, number: int, *earlier: Any) -> str:
    """Leave the context behind; not idempotent."""
    context = outbox.current_context()
    effect(f"{context.correlation_id}", number, f"{context.causation_id}")
    return str(self.request.id)


@app.task
def tells_and_starts(number: int) -> None:
    """Start another task, plainly."""
    remember.delay(number)

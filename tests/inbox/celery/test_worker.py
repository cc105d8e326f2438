"""Celery workers as real processes: tasks with effects once, and events beside them."""

import json
import os
import signal
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, chain
from celery.result import AsyncResult
from kombu import Connection

from inbox.models import Receipt
from outbox import use_context
from outbox.models import Message
from tests.inbox import celery_tasks as tasks
from tests.inbox.support import Queue, bound_queue, effects, happened
from tests.kit.processes import Worker
from tests.kit.waiting import until
from tests.testapp.handlers import RECORD
from tests.testapp.models import Effect

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]


class Tasks:
    """A queue of tasks of its own, results in a directory, and workers for them."""

    def __init__(self, url: str, database: str, directory: Path) -> None:
        self.name = f"tasks-{uuid.uuid4().hex}"
        self.url = url
        # Not that of the tests, which has the settings that it found when it was imported.
        self.app = Celery("sender", set_as_current=False)
        self.app.conf.update(
            broker_url=url, result_backend=f"file://{directory}", task_default_queue=self.name
        )
        self.environment = {
            "BROKER_URL": url,
            "DATABASE_URL": database,
            "TEST_TASKS": self.name,
            "TEST_RESULTS": str(directory),
        }

    @contextmanager
    def worker(self, *arguments: str, **environment: str) -> Iterator[Worker]:
        with Worker(*arguments, **(self.environment | environment)) as worker:
            worker.wait_for(lambda: worker.ready)
            yield worker

    def task(self, task: Any, *args: Any) -> Any:
        """Return a task's signature, to be sent from here."""
        return self.app.signature(task.name, args)

    def send(self, task: Any, *args: Any, **options: Any) -> AsyncResult[Any]:
        return self.app.send_task(task.name, args, **options)

    def ready(self) -> int:
        with Connection(self.url) as connection:
            channel: Any = connection.channel()
            return int(channel.queue_declare(self.name, passive=True).message_count)

    def close(self) -> None:
        self.app.close()
        with Connection(self.url) as connection:
            channel: Any = connection.channel()
            channel.queue_delete(self.name)
            channel.exchange_delete(self.name)


@pytest.fixture
def celery(broker_url: str, database_url: str, tmp_path: Path) -> Iterator[Tasks]:
    found = Tasks(broker_url, database_url, tmp_path)
    yield found
    found.close()


def stop(worker: Worker) -> None:
    """Ask for a warm shutdown, which ends with exit code 0."""
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0, worker.output


def succeeded(result: AsyncResult[Any]) -> bool:
    return bool(result.state == "SUCCESS")


def test_a_worker_killed_between_commit_and_ack_has_effects_once(celery: Tasks) -> None:
    """The broker delivers the task again: no second effect, the first one's result, and the chain
    goes on.
    """
    with celery.worker(OUTBOX_FAILPOINT="inbox.task_committed") as worker:
        last = chain(
            celery.task(tasks.once, 1), celery.task(tasks.nothing), app=celery.app
        ).apply_async()
        worker.wait_for(lambda: succeeded(last))
        assert "WorkerLostError" in worker.output
        assert "has had its effects before" in worker.output
        [effect] = Effect.objects.filter(handler="once")
        assert last.parent.result == effect.pk
        assert effects("nothing") == [effect.pk]
        stop(worker)


def test_a_second_delivery_leaves_the_first_result(celery: Tasks) -> None:
    """The backend keeps what it has, to the moment at which the task was done."""
    with celery.worker() as worker:
        first = celery.send(tasks.once, 1)
        worker.wait_for(lambda: succeeded(first))
        before = next(Path(celery.environment["TEST_RESULTS"]).iterdir()).read_bytes()

        celery.send(tasks.once, 1, task_id=first.id)
        worker.wait_for(lambda: f"once[{first.id}] ignored" in worker.output)

        assert next(Path(celery.environment["TEST_RESULTS"]).iterdir()).read_bytes() == before
        assert effects() == [1]
        stop(worker)


@pytest.mark.parametrize("task", [tasks.mended, tasks.autoretried, tasks.quietly_mended])
def test_a_retry_in_a_worker_has_effects_once(celery: Tasks, task: Any) -> None:
    """The try that failed leaves nothing, the next one has the effect and the receipt."""
    with celery.worker() as worker:
        result = celery.send(task, 1)
        worker.wait_for(lambda: succeeded(result))
        assert Effect.objects.get().pk == result.result
        assert Receipt.objects.get().message_id == result.id
        stop(worker)


def test_events_of_tasks_are_in_their_conversation(celery: Tasks) -> None:
    """An event that a task emits belongs to the flow of who started the task."""
    with celery.worker() as worker:
        with use_context(correlation_id="flow", causation_id="the event"):
            inherited = celery.send(tasks.told, 1)
        alone = celery.send(tasks.told, 2)
        marked = celery.send(tasks.told, 3, headers={"outbox_message_id": "m-1"})
        for result in (inherited, alone, marked):
            worker.wait_for(lambda result=result: succeeded(result))
        stop(worker)

    found = {
        json.loads(bytes(each.data))["number"]: (each.correlation_id, each.causation_id)
        for each in Message.objects.all()
    }
    assert found == {
        1: ("flow", inherited.id),
        2: (alone.id, alone.id),
        3: (marked.id, "m-1"),
    }
    assert Receipt.objects.get(message_id=inherited.id).correlation_id == "flow"


def test_tasks_of_tasks_are_in_their_conversation(celery: Tasks) -> None:
    """A plain task that starts another one, plainly, hands the flow on."""
    with celery.worker() as worker:
        with use_context(correlation_id="flow"):
            celery.send(tasks.tells_and_starts, 1)
        worker.wait_for(Effect.objects.exists)
        stop(worker)

    assert Effect.objects.get().handler == "flow"


# --- Events in workers -----------------------------------------------------------------------


@pytest.fixture
def queue(broker_url: str) -> Iterator[Queue]:
    """A queue that no other test uses, bound to the test app's event."""
    with bound_queue(broker_url) as found:
        yield found


def step(queue: Queue, **settings: Any) -> dict[str, str]:
    return {
        "TEST_STEP": queue.name,
        "TEST_GROUP": queue.name,
        "TEST_EXCHANGE": queue.exchange,
        "TEST_INBOX": json.dumps({"PREFETCH": 10, **settings}),
    }


def test_events_and_tasks_in_one_worker(celery: Tasks, queue: Queue) -> None:
    """A warm shutdown under load finishes what is begun, loses nothing and ends with 0."""
    published = [happened(number) for number in range(300)]
    queue.publish(*published)
    results = [celery.send(tasks.once, number) for number in range(50)]
    with celery.worker(**step(queue)) as worker:
        worker.wait_for(lambda: Effect.objects.filter(handler=RECORD).exists())
        worker.wait_for(lambda: Effect.objects.filter(handler="once").exists())
        stop(worker)
    until(lambda: not queue.consumers())
    with celery.worker(**step(queue)) as worker:
        worker.wait_for(lambda: all(map(succeeded, results)))
        worker.wait_for(lambda: len(effects(RECORD)) == len(published))
        stop(worker)

    ids = Effect.objects.filter(handler=RECORD).values_list("message_id", flat=True)
    assert sorted(ids) == sorted(each.id for each in published)
    assert sorted(effects("once")) == list(range(50))
    assert (queue.ready(), celery.ready()) == (0, 0)


def consumer_pid(worker: Worker) -> int:
    """The process that consumes beside a worker, by its command; 0 if there is none."""
    for directory in Path("/proc").iterdir():
        try:
            arguments = (directory / "cmdline").read_bytes().split(b"\0")
        except (NotADirectoryError, FileNotFoundError, ProcessLookupError):
            continue
        if b"--parent" in arguments and str(worker.pid).encode() in arguments:
            return int(directory.name)
    return 0


def test_a_consumer_that_dies_is_started_again(celery: Tasks, queue: Queue) -> None:
    """The worker says so and goes on; the next consumer handles what came in between."""
    with celery.worker(**step(queue)) as worker:
        worker.wait_for(queue.consumers)
        os.kill(consumer_pid(worker), signal.SIGKILL)
        worker.wait_for(lambda: "has ended with exit code -9" in worker.output)
        queue.publish(happened(1))
        worker.wait_for(lambda: effects(RECORD) == [1])
        stop(worker)


def test_a_consumer_does_not_outlive_a_killed_worker(celery: Tasks, queue: Queue) -> None:
    """Nobody is left to stop it, so it ends by itself."""
    with celery.worker(**step(queue)) as worker:
        worker.wait_for(queue.consumers)
        pid = consumer_pid(worker)
        worker.send(signal.SIGKILL)
        worker.wait()
        until(lambda: not Path(f"/proc/{pid}/cmdline").exists() or not consumer_pid(worker))
    until(lambda: not queue.consumers())


def test_a_cold_shutdown_kills_the_consumer(celery: Tasks, queue: Queue) -> None:
    """SIGQUIT waits for no batch: its transaction rolls back."""
    with celery.worker(**step(queue)) as worker:
        worker.wait_for(queue.consumers)
        worker.send(signal.SIGQUIT)
        worker.wait()
        assert not consumer_pid(worker)


@pytest.mark.parametrize("pool", ["solo", "threads"])
def test_other_pools(celery: Tasks, queue: Queue, pool: str) -> None:
    """Whatever the pool is, the consumer is a process of its own."""
    with celery.worker("--pool", pool, **step(queue)) as worker:
        queue.publish(happened(1))
        result = celery.send(tasks.once, 2)
        worker.wait_for(lambda: succeeded(result) and effects(RECORD) == [1])
        stop(worker)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"TEST_STEP": "unheard-of"}, "No handlers in group 'unheard-of'. Groups: "),
        ({"TEST_INBOX": '{"URL": "redis://localhost"}'}, "The broker's URL must look like"),
    ],
)
def test_what_could_never_work_ends_the_worker(
    celery: Tasks, queue: Queue, change: dict[str, str], text: str
) -> None:
    """It says what manage.py consume says, and does not start half."""
    with Worker(**(celery.environment | step(queue) | change)) as worker:
        assert worker.wait() != 0
        assert text in worker.output


def test_a_refused_password_is_told(celery: Tasks, queue: Queue) -> None:
    """The worker runs its tasks; what the consumer may not do is in its output."""
    url = celery.url.replace("guest:guest", "guest:wrong")
    if url == celery.url:
        pytest.skip("the broker has another user")
    with celery.worker(**step(queue, URL=url)) as worker:
        worker.wait_for(lambda: "The broker does not let us in" in worker.output)
        worker.wait_for(lambda: "has ended with exit code 1" in worker.output)
        result = celery.send(tasks.once, 1)
        worker.wait_for(lambda: succeeded(result))
        stop(worker)

"""A backend for Django's tasks: enqueued with a transaction, run once."""

import json
import os
import uuid
from datetime import timedelta
from typing import Any

import django
import pytest
from asgiref.sync import async_to_sync
from django.db import connection, transaction
from django.test import override_settings
from django.utils import timezone

import outbox
from inbox import RetryPolicy
from inbox.checks import check_tasks
from inbox.django_tasks.conf import task_queues
from inbox.handlers.registry import handlers
from inbox.models import Receipt
from inbox.retention import prune
from outbox.message.event_types import is_type_name, registry
from outbox.models import Message, Scheduled
from tests.inbox import task_functions as tasks
from tests.inbox.django_tasks.support import BACKEND, backend, message_of, run_tasks
from tests.inbox.support import Queue, effects, make_due, postgresql, receive, turn
from tests.kit.processes import run
from tests.test_public_api import python

if django.VERSION >= (6, 0):
    from django.tasks import TaskResultStatus as Status
    from django.tasks import default_task_backend, task
    from django.tasks.exceptions import InvalidTask, TaskResultDoesNotExist, TaskResultMismatch
    from django.tasks.signals import task_enqueued
else:
    from django_tasks import TaskResultStatus as Status
    from django_tasks import default_task_backend, task
    from django_tasks.exceptions import InvalidTaskError as InvalidTask
    from django_tasks.exceptions import TaskResultDoesNotExist, TaskResultMismatch
    from django_tasks.signals import task_enqueued

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.sqlite]

# --- Enqueue -----------------------------------------------------------------------------


def test_a_task_of_a_transaction_that_rolls_back_is_not_run() -> None:
    """Neither a message nor a result of it remains."""
    with transaction.atomic():
        result = tasks.add.enqueue(1)
        transaction.set_rollback(True)
    run_tasks()

    assert effects() == []
    assert Message.objects.count() == 0
    with pytest.raises(TaskResultDoesNotExist, match="never enqueued here"):
        result.refresh()


def test_a_task_runs_after_the_commit() -> None:
    """The result goes from READY to SUCCESSFUL, with times, the worker and what was returned."""
    with transaction.atomic():
        result = tasks.add.enqueue(40, more=2)
    assert (result.status, result.attempts) == (Status.READY, 0)
    result.refresh()
    assert result.status == Status.READY
    run_tasks()

    result.refresh()

    assert effects() == [42]
    assert result.status == Status.SUCCESSFUL
    assert result.return_value == 42
    assert result.errors == []
    assert result.attempts == 1
    assert result.worker_ids[0].endswith(f"-{os.getpid()}")
    assert result.enqueued_at <= result.started_at <= result.finished_at
    assert result.last_attempted_at == result.started_at
    assert (result.args, result.kwargs) == ([40], {"more": 2})


def test_enqueue_outside_of_a_transaction_makes_one() -> None:
    """The message is there when enqueue() returns."""
    result = tasks.add.enqueue(3)

    assert Message.objects.get().message_id == uuid.UUID(result.id)
    run_tasks()
    assert effects() == [3]


def test_enqueue_in_a_manual_transaction() -> None:
    """With autocommit off a task commits as well, and is announced once it has."""
    if connection.vendor == "sqlite":
        pytest.skip("Django's atomic() commits on SQLite when autocommit is off")
    announced: list[Any] = []

    def announce(task_result: Any, **_: Any) -> None:
        announced.append(task_result.id)

    transaction.set_autocommit(False)
    task_enqueued.connect(announce)
    try:
        tasks.add.enqueue(1)
        transaction.rollback()
        assert Message.objects.count() == 0
        result = tasks.add.enqueue(3)
        transaction.commit()
        assert announced == []
    finally:
        transaction.set_autocommit(True)  # which is when Django runs the hooks
        task_enqueued.disconnect(announce)
    run_tasks()

    assert announced == [result.id]
    assert effects() == [3]


def test_a_message_says_what_is_to_be_run() -> None:
    """One type and one topic for each queue, which no other service is bound to."""
    result = tasks.add.using(queue_name="reports").enqueue(3, more=4)

    found = message_of(result)
    data = json.loads(found.data)
    assert (found.id, found.type) == (result.id, "django.task.reports")
    assert (found.topic, found.subject) == (
        "tasks.project.reports",
        "tests.inbox.task_functions.add",
    )
    assert found.key is None
    assert data.pop("enqueued_at")
    assert data == {
        "task": "tests.inbox.task_functions.add",
        "args": [3],
        "kwargs": {"more": 4},
        "queue_name": "reports",
        "priority": 0,
        "run_after": None,
    }


def test_enqueue_from_async_code() -> None:
    """aenqueue() and aget_result() do the same."""

    async def both() -> Any:
        result = await tasks.add.aenqueue(5)
        return await tasks.add.aget_result(result.id)

    result = async_to_sync(both)()

    assert result.status == Status.READY
    run_tasks()
    async_to_sync(result.arefresh)()
    assert result.return_value == 5


@pytest.mark.parametrize(
    ("argument", "named"),
    [
        (object(), "argument 0: Unsupported type"),
        ([{"a": timezone.now()}], "argument 0: Unsupported type"),
        ({1: 2}, "argument 0: Unsupported key of a dict"),
    ],
)
def test_arguments_that_are_not_json_are_refused(argument: Any, named: str) -> None:
    """The error names the task and the argument; nothing is written."""
    with pytest.raises(TypeError, match=f"task_functions.echo, {named}"):
        tasks.echo.enqueue(argument)
    with pytest.raises(TypeError, match="argument 'name': Unsupported"):
        tasks.echo.enqueue(name={1})
    assert Message.objects.count() == 0


@pytest.mark.parametrize("argument", [float("nan"), "a\0b", "x" * 2_000_000])
def test_arguments_that_would_not_arrive_are_refused(argument: Any) -> None:
    """As with any message of the outbox."""
    with pytest.raises(outbox.InvalidEvent):
        tasks.echo.enqueue(argument)
    assert Message.objects.count() == 0


def test_arguments_arrive_as_json_has_them() -> None:
    """A tuple is a list, as the framework says."""
    result = tasks.echo.enqueue((1, 2), None, a={"b": [True, 1.5, "ä"]})
    run_tasks()
    result.refresh()

    assert result.return_value == [[[1, 2], None], {"a": {"b": [True, 1.5, "ä"]}}]


def test_what_is_not_supported_is_refused() -> None:
    """Priorities, and queues that the backend does not have."""
    assert default_task_backend.supports_priority is False
    assert default_task_backend.supports_defer is True
    assert default_task_backend.supports_async_task is True
    assert default_task_backend.supports_get_result is True
    with pytest.raises(InvalidTask, match="priority"):
        tasks.add.using(priority=5)
    with pytest.raises(InvalidTask, match="elsewhere"):
        tasks.add.using(queue_name="elsewhere")
    with pytest.raises(InvalidTask, match="module level"):
        task(lambda: None)


# --- Once --------------------------------------------------------------------------------


def test_a_task_delivered_twice_runs_once() -> None:
    """In one batch, and again later; the first result stays."""
    result = tasks.add.enqueue(1)
    message = message_of(result)
    [first, second] = receive(message, message, group="tasks")
    assert (first.handled, second.duplicates) == (1, 1)
    result.refresh()
    finished = result.finished_at

    [third] = receive(message, group="tasks")

    result.refresh()
    assert third.duplicates == 1
    assert effects() == [1]
    assert (result.status, result.finished_at) == (Status.SUCCESSFUL, finished)


def test_each_queue_has_a_handler_in_the_group() -> None:
    """Its name is the type; the group is "tasks", or what OPTIONS says."""
    assert [each.name for each in handlers.groups()["tasks"]] == [
        "django.task.default",
        "django.task.reports",
    ]
    with override_settings(TASKS={"default": backend(GROUP="slow")}):
        assert "tasks" not in handlers.groups()
        assert len(handlers.groups()["slow"]) == 2
        [result] = receive(message_of(tasks.add.enqueue(1)), group="slow")
    assert result.handled == 1
    assert handlers.groups()["tasks"][0].retry_policy.attempts == 1


# --- What is returned ----------------------------------------------------------------------


def test_none_is_returned_as_none() -> None:
    result = tasks.nothing.enqueue()
    run_tasks()
    result.refresh()

    assert result.status == Status.SUCCESSFUL
    assert result.return_value is None


@pytest.mark.parametrize(
    ("function", "arguments", "error"),
    [
        (tasks.give_a_set, [], "TypeError"),
        (tasks.give, [70_000], "ResultTooLarge"),
    ],
)
def test_a_result_that_cannot_be_kept_is_a_failure(
    function: Any, arguments: list[Any], error: str
) -> None:
    """It is not lost in silence, and nor do effects remain."""
    result = function.enqueue(*arguments)
    run_tasks()
    result.refresh()

    assert result.status == Status.FAILED
    assert result.errors[0].exception_class.__name__ == error
    assert effects() == []


# --- Deferred, context, async ------------------------------------------------------------


def test_a_deferred_task_waits_until_it_is_due() -> None:
    """It is READY, and no message of the log before."""
    later = timezone.now() + timedelta(hours=1)
    result = tasks.add.using(run_after=later).enqueue(1)
    run_tasks()
    result.refresh()
    assert (result.status, effects()) == (Status.READY, [])
    assert tasks.add.get_result(result.id).task.run_after == later
    assert Message.objects.count() == 0
    Scheduled.objects.update(due_at=timezone.now() - timedelta(seconds=5))

    run_tasks()

    enqueued = result.enqueued_at
    result.refresh()
    assert (result.status, effects()) == (Status.SUCCESSFUL, [1])
    assert result.enqueued_at == enqueued


def test_a_deferred_task_can_be_cancelled() -> None:
    """The result's id is that of the message."""
    later = timezone.now() + timedelta(hours=1)
    result = tasks.add.using(run_after=later).enqueue(1)

    assert outbox.cancel(result.id)

    with pytest.raises(TaskResultDoesNotExist):
        result.refresh()


@pytest.mark.usefixtures("thrice")
def test_a_task_gets_its_context() -> None:
    """With its id, the number of the attempt, and the error of the one before."""
    tasks.fail_times = 1
    result = tasks.with_context.enqueue(9)
    receive(message_of(result), group="tasks")
    make_due()
    turn("tasks")
    result.refresh()

    assert result.return_value == [result.id, "RUNNING", 2, 9, ["builtins.LookupError"]]


def test_an_async_task_runs_in_the_transaction_too() -> None:
    """What it has done in the database is undone if it fails."""
    worked, failed = tasks.wait.enqueue(1), tasks.wait.enqueue(-1)
    run_tasks()
    worked.refresh()
    failed.refresh()

    assert effects() == [1]
    assert (worked.status, worked.return_value) == (Status.SUCCESSFUL, 1)
    assert failed.status == Status.FAILED


def test_events_of_a_task_belong_to_its_flow() -> None:
    """A task that another enqueues has its correlation id."""
    with outbox.use_context(correlation_id="flow-1"):
        result = tasks.add.enqueue(1)

    assert message_of(result).correlation_id == "flow-1"


# --- Results that are not there ------------------------------------------------------------


@pytest.mark.parametrize("number", ["00000000-0000-7000-8000-000000000000", "nonsense", ""])
def test_an_unknown_id_is_an_error(number: str) -> None:
    with pytest.raises(TaskResultDoesNotExist):
        default_task_backend.get_result(number)


def test_an_event_is_no_task() -> None:
    """Ids of other messages are not known."""
    outbox.register("tests.tasks.other")
    with transaction.atomic():
        message = outbox.emit("tests.tasks.other", {})
    registry.remove(registry.named("tests.tasks.other"))

    with pytest.raises(TaskResultDoesNotExist):
        default_task_backend.get_result(message.id)


def test_a_result_is_that_of_its_task() -> None:
    result = tasks.add.enqueue(1)

    with pytest.raises(TaskResultMismatch):
        tasks.fail.get_result(result.id)


def test_a_result_whose_message_was_pruned_is_not_known() -> None:
    """The message has the arguments; the error names the setting."""
    result = tasks.add.enqueue(1)
    run_tasks()
    Message.objects.all().delete()

    with pytest.raises(TaskResultDoesNotExist, match=r"OUTBOX\['RETENTION'\]"):
        result.refresh()


def test_a_failed_task_is_known_after_its_message_was_pruned() -> None:
    """The receipt keeps the message until a person decides."""
    result = tasks.fail.enqueue(1)
    run_tasks()
    Message.objects.all().delete()

    result.refresh()

    assert (result.status, result.args) == (Status.FAILED, [1])


def test_a_result_whose_receipt_was_pruned_is_not_ready_again() -> None:
    """No receipt means READY only as long as none can have been deleted."""
    with override_settings(INBOX={"RETENTION": 1}):
        result = tasks.add.enqueue(1)
        run_tasks()
        ago = timezone.now() - timedelta(days=2)
        Receipt.objects.update(changed=ago)
        Message.objects.update(time=ago)
        assert prune(connection.alias) == 1

        with pytest.raises(TaskResultDoesNotExist, match=r"INBOX\['RETENTION'\]"):
            result.refresh()


# --- Configuration -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"default": backend(GRUOP="x")}, "GRUOP"),
        ({"default": backend(GROUP="no group")}, "GROUP 'no group'"),
        ({"default": backend(RETRY_POLICY={"attempts": 0})}, "1 to 1000 attempts"),
        ({"default": backend(RETRY_POLICY={"tries": 1})}, "RETRY_POLICY must be"),
        ({"default": {"BACKEND": BACKEND, "QUEUES": []}}, "needs names in QUEUES"),
        ({"default": {"BACKEND": BACKEND, "QUEUES": ["so so"]}}, "'so so' cannot be part"),
        ({"default": {"BACKEND": BACKEND, "QUEUES": ["q" * 100]}}, "at most 88 characters"),
        ({"default": backend(), "other": backend()}, "one of 'default' and of 'other'"),
    ],
)
def test_a_setting_that_is_wrong_is_told(setting: dict[str, Any], said: str) -> None:
    """By a check, and whoever enqueues all the same is told to run it."""
    with override_settings(TASKS=setting):
        [error] = check_tasks()
        assert error.id == "inbox.E003"
        assert said in error.msg
        with pytest.raises(InvalidTask):
            tasks.add.enqueue(1)


def test_good_settings_pass() -> None:
    """Also without any TASKS, and with a policy written as a dict."""
    assert check_tasks() == []
    policy = {"attempts": 5, "base": 1.0, "cap": 60.0}
    with override_settings(TASKS={"default": backend(RETRY_POLICY=policy)}):
        assert check_tasks() == []
        assert handlers.groups()["tasks"][0].retry_policy == RetryPolicy(**policy)
    with override_settings():
        from django.conf import settings  # noqa: PLC0415 - to delete from it

        del settings.TASKS
        assert check_tasks() == []


def test_a_derived_backend_is_one_as_well() -> None:
    """Its queues have handlers."""
    path = "tests.inbox.task_backends.Derived"
    with override_settings(TASKS={"default": {"BACKEND": path, "QUEUES": ["derived"]}}):
        assert [each.name for each in handlers.groups()["tasks"]] == ["django.task.derived"]


@pytest.mark.skipif(django.VERSION < (6, 0), reason="needs both frameworks")
def test_a_task_of_the_backport_is_djangos_with_django_6() -> None:
    """A project can change its imports after the upgrade."""
    from django_tasks import task as backports  # noqa: PLC0415 - not with any Django

    decorated = backports(tasks.add.func)
    assert type(decorated) is type(tasks.add)
    result = decorated.enqueue(1)
    run_tasks()
    result.refresh()
    assert result.status == Status.SUCCESSFUL


@pytest.mark.parametrize(
    ("source", "topic"),
    [
        ("/shop", "tasks.shop.default"),
        ("/a/b", "tasks.a-b-"),
        ("/a-b", "tasks.a-b.default"),
        ("https://example.com/" + "x" * 200, "tasks.https-example-com-"),
    ],
)
def test_no_two_services_have_one_topic(source: str, topic: str) -> None:
    """It has the source, in the characters of a topic."""
    with override_settings(OUTBOX={"SOURCE": source}):
        [queue, _] = task_queues()
        assert queue.topic.startswith(topic)
        assert is_type_name(queue.topic)


# --- Processes -----------------------------------------------------------------------------


def test_the_framework_is_not_imported_unless_asked_for() -> None:
    """Celery imports inbox.tasks in projects that have no task framework."""
    printed = python(
        """
import sys
absent = ("django.tasks", "django_tasks")
sys.modules.update(dict.fromkeys(absent))
from django.conf import settings
settings.configure(INSTALLED_APPS=["outbox", "relay", "inbox"])
import django
django.setup()
import inbox.tasks
from outbox import ConfigurationError
try:
    inbox.tasks.OutboxBackend
except (ConfigurationError, ImportError) as exc:
    print(type(exc).__name__)
""",
        DJANGO_SETTINGS_MODULE="",
    )
    assert printed.split()[-1] in ("ConfigurationError", "ModuleNotFoundError")


@pytest.mark.slow
@postgresql
def test_a_consumer_runs_tasks(queue: Queue, database_url: str) -> None:
    """With RabbitMQ between relay and consumer, in processes of their own."""
    setting = {"default": backend(GROUP=queue.name, MODULES=[tasks.__name__])}
    environment = {
        "DATABASE_URL": database_url,
        "BROKER_URL": queue.url,
        "TEST_EXCHANGE": queue.exchange,
        "TEST_TASKS_OF_DJANGO": json.dumps(setting),
    }
    with override_settings(TASKS=setting):
        queue.declare()
        worked, failed = tasks.add.enqueue(1), tasks.fail.enqueue(2)
        code, output = run("relay", "--until-empty", **environment)
        assert code == 0, output

        code, output = run("consume", "--group", queue.name, "--until-empty", **environment)

        assert code == 1, output  # something has failed
        worked.refresh()
        failed.refresh()
        assert (worked.return_value, worked.worker_ids[0].endswith(f"-{os.getpid()}")) == (1, False)
        assert failed.errors[0].exception_class is LookupError
    assert effects() == [1]

"""A backend for Django's tasks: enqueued with a transaction, run once."""

import json
import logging
import os
import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import django
import pytest
from asgiref.sync import async_to_sync
from django.core.management import call_command
from django.db import connection, transaction
from django.test import override_settings
from django.utils import timezone

import outbox
from inbox import RetryPolicy
from inbox.checks import check_tasks
from inbox.models import Receipt
from inbox.registry import handlers
from inbox.retention import prune
from inbox.tasks.conf import task_queues
from outbox.models import Message, Scheduled
from outbox.registry import is_type_name, registry
from relay.replay import envelope
from tests.inbox import task_functions as tasks
from tests.inbox.support import Queue, effects, make_due, postgresql, receive, turn
from tests.processes import run
from tests.test_public_api import python

if django.VERSION >= (6, 0):
    from django.tasks import TaskResultStatus as Status
    from django.tasks import default_task_backend, task
    from django.tasks.exceptions import InvalidTask, TaskResultDoesNotExist, TaskResultMismatch
    from django.tasks.signals import task_enqueued, task_finished, task_started
else:
    from django_tasks import TaskResultStatus as Status
    from django_tasks import default_task_backend, task
    from django_tasks.exceptions import InvalidTaskError as InvalidTask
    from django_tasks.exceptions import TaskResultDoesNotExist, TaskResultMismatch
    from django_tasks.signals import task_enqueued, task_finished, task_started

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.sqlite]

BACKEND = "inbox.tasks.OutboxBackend"
QUEUES = ["default", "reports"]


def backend(**options: Any) -> dict[str, Any]:
    return {"BACKEND": BACKEND, "QUEUES": QUEUES, "OPTIONS": options}


@pytest.fixture(autouse=True)
def _backend() -> Iterator[None]:
    with override_settings(TASKS={"default": backend()}):
        yield
    tasks.fail_times = 0


@pytest.fixture
def thrice() -> Iterator[None]:
    """Tasks are tried three times, without long pauses."""
    policy = RetryPolicy(attempts=3, base=0.001, cap=0.001)
    with override_settings(TASKS={"default": backend(RETRY_POLICY=policy)}):
        yield


def run_tasks() -> None:
    """Publish what is in the outbox to the handlers of this process."""
    call_command("relay", "--until-empty", verbosity=0)


def message_of(result: Any) -> outbox.Envelope:
    return envelope(Message.objects.get(message_id=result.id))


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


# --- Failure -----------------------------------------------------------------------------


def test_a_task_that_fails_leaves_its_error_and_nothing_else() -> None:
    """One attempt, as Django's own backends have it."""
    result = tasks.fail.enqueue(7)
    run_tasks()

    result.refresh()

    assert effects() == []
    assert (result.status, result.attempts) == (Status.FAILED, 1)
    [error] = result.errors
    assert error.exception_class is LookupError
    assert "no luck with 7" in error.traceback
    assert 'raise LookupError(f"no luck' in error.traceback
    assert result.finished_at is not None
    with pytest.raises(ValueError, match="failed"):
        result.return_value  # noqa: B018
    receipt = Receipt.objects.get(message_id=result.id)
    assert receipt.error.startswith("builtins.LookupError: no luck with 7\n")


def test_an_error_of_the_database_is_one_of_the_task() -> None:
    """Its neighbours in the batch are run."""
    failed, worked = tasks.violate.enqueue(1), tasks.add.enqueue(2)

    receive(message_of(failed), message_of(worked), group="tasks")

    assert effects() == [2]
    failed.refresh()
    assert failed.errors[0].exception_class_path == "django.db.utils.IntegrityError"


def test_an_error_that_was_swallowed_is_a_failure() -> None:
    """A task is not successful without its effects."""
    result = tasks.swallow.enqueue(1)
    run_tasks()
    result.refresh()

    assert result.status == Status.FAILED
    assert effects() == []
    assert result.errors[0].exception_class.__name__ in ("TaskFailed", "TransactionManagementError")


def test_a_task_can_reject() -> None:
    """The verdicts of handlers are those of tasks."""
    result = tasks.reject.enqueue()
    run_tasks()
    result.refresh()

    assert result.status == Status.FAILED
    assert result.errors[0].exception_class_path == "inbox.verdicts.Reject"
    assert result.errors[0].traceback == "not this one"


def test_of_a_long_traceback_the_end_is_kept() -> None:
    """It says what has happened last."""
    result = tasks.deep.enqueue(40)
    run_tasks()
    result.refresh()

    [error] = result.errors
    assert error.exception_class is ValueError
    assert error.traceback.startswith("builtins.ValueError: level 40\n")
    assert error.traceback.endswith("ValueError: level 40")
    assert len(error.traceback) <= 4000


def test_a_traceback_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """The receipt's text has it."""
    tasks.fail.enqueue(7)
    with caplog.at_level(logging.ERROR, "inbox"):
        run_tasks()

    [record] = [each for each in caplog.records if each.name == "inbox"]
    assert record.getMessage().count("Traceback") == 1
    assert record.exc_info is None


@pytest.mark.usefixtures("thrice")
def test_a_task_is_tried_again_as_the_options_say() -> None:
    """Until then it is READY, with the error of the last attempt."""
    tasks.fail_times = 2
    result = tasks.flaky.enqueue(1)
    receive(message_of(result), group="tasks")
    result.refresh()
    assert (result.status, result.attempts) == (Status.READY, 1)
    assert result.errors[0].exception_class is LookupError
    assert result.finished_at is None
    for _ in range(2):
        make_due()
        turn("tasks")

    result.refresh()

    assert (result.status, result.attempts) == (Status.SUCCESSFUL, 3)
    assert result.return_value == 1
    assert result.errors == []
    assert result.started_at < result.last_attempted_at <= result.finished_at
    assert effects() == [1]


@pytest.mark.usefixtures("thrice")
def test_after_the_last_attempt_a_task_has_failed() -> None:
    """It waits for a person, like any dead receipt."""
    result = tasks.fail.enqueue(1)
    receive(message_of(result), group="tasks")
    for _ in range(2):
        make_due()
        turn("tasks")

    result.refresh()

    assert (result.status, result.attempts) == (Status.FAILED, 3)
    assert Receipt.objects.get(message_id=result.id).state == "dead"


def test_a_failed_task_that_a_person_retries_can_succeed() -> None:
    """The result goes back to READY, and on."""
    tasks.fail_times = 1
    result = tasks.flaky.enqueue(1)
    run_tasks()
    result.refresh()
    assert result.status == Status.FAILED
    call_command("inbox_retry", "--handler", "django.task.default", verbosity=0)
    result.refresh()
    assert result.status == Status.READY

    turn("tasks")

    result.refresh()
    assert (result.status, result.return_value) == (Status.SUCCESSFUL, 1)


@pytest.mark.parametrize("path", ["tests.inbox.task_functions.gone", "no.such.module.task"])
def test_a_task_that_is_not_there_fails(path: str) -> None:
    """The error says which one, and who has enqueued it."""
    with transaction.atomic():
        message = outbox.emit("django.task.default", payload_of(path))
    receive(message, group="tasks")

    receipt = Receipt.objects.get()
    assert receipt.state == "dead"
    assert f"TaskNotFound: there is no {path} here, which /project has enqueued" in receipt.error


def test_what_is_no_task_is_not_called() -> None:
    """A message names a task, not any function."""
    with transaction.atomic():
        message = outbox.emit(
            "django.task.default", payload_of("tests.inbox.task_functions.no_task")
        )
    receive(message, group="tasks")

    assert "no_task is no task" in Receipt.objects.get().error


def test_a_message_that_is_no_task_is_rejected() -> None:
    """Whoever has sent it."""
    with transaction.atomic():
        message = outbox.emit("django.task.default", {"task": 1})
    receive(message, group="tasks")

    receipt = Receipt.objects.get()
    assert (receipt.state, receipt.reason) == ("dead", "rejected")
    assert receipt.error.startswith("it is no task: ")
    with pytest.raises(TaskResultDoesNotExist, match="it is no task"):
        default_task_backend.get_result(message.id)


def payload_of(path: str) -> dict[str, Any]:
    return {
        "task": path,
        "args": [],
        "kwargs": {},
        "queue_name": "default",
        "priority": 0,
        "enqueued_at": timezone.now().isoformat(),
    }


@pytest.mark.usefixtures("thrice")
def test_a_task_whose_process_dies_too_often_has_failed(heard: list[tuple[str, str, str]]) -> None:
    """Its error is what the inbox knows of it."""
    result = tasks.fail.enqueue(1)
    receive(message_of(result), group="tasks")
    make_due()
    Receipt.objects.update(begun=3, begun_at=timezone.now() - timedelta(hours=1))

    turn("tasks")

    result.refresh()
    assert result.status == Status.FAILED
    assert result.errors[0].exception_class.__name__ == "TaskFailed"
    assert result.errors[0].traceback.startswith("3 processes ended")
    assert heard[-1] == ("finished", "fail", "FAILED")


@postgresql
def test_a_task_that_idles_for_too_long_fails_by_itself() -> None:
    """The server ends the session under it; its neighbours are run."""
    [idle, *others] = [tasks.idle.enqueue(), tasks.add.enqueue(1), tasks.add.enqueue(2)]

    receive(*map(message_of, [others[0], idle, others[1]]), group="tasks")

    assert sorted(effects()) == [1, 2]
    idle.refresh()
    assert idle.status == Status.FAILED


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


# --- Signals -----------------------------------------------------------------------------


@pytest.fixture
def heard() -> Iterator[list[tuple[str, str, str]]]:
    """What the framework's signals have told: signal, task and status."""
    found: list[tuple[str, str, str]] = []
    receivers = {}
    for name, signal in {
        "enqueued": task_enqueued,
        "started": task_started,
        "finished": task_finished,
    }.items():

        def hear(*, task_result: Any, name: str = name, **_: Any) -> None:
            found.append((name, task_result.task.name, str(task_result.status)))

        receivers[signal] = hear
        signal.connect(hear)
    yield found
    for signal, receiver in receivers.items():
        signal.disconnect(receiver)


def test_signals_of_a_task_that_succeeds(heard: list[tuple[str, str, str]]) -> None:
    """Nothing is told before the commit, and nothing of what was rolled back."""
    with transaction.atomic():
        tasks.fail.enqueue(1)
        transaction.set_rollback(True)
    with transaction.atomic():
        tasks.add.enqueue(1)
        assert heard == []
    assert heard == [("enqueued", "add", "READY")]
    run_tasks()

    assert heard[1:] == [("started", "add", "RUNNING"), ("finished", "add", "SUCCESSFUL")]


@pytest.mark.usefixtures("thrice")
def test_signals_of_a_task_that_fails(heard: list[tuple[str, str, str]]) -> None:
    """It has finished with the last attempt."""
    result = tasks.fail.enqueue(1)
    receive(message_of(result), group="tasks")
    assert [each[0] for each in heard] == ["enqueued", "started"]
    for _ in range(2):
        make_due()
        turn("tasks")

    assert [each[0] for each in heard[2:]] == ["started", "started", "finished"]
    assert heard[-1] == ("finished", "fail", "FAILED")


def test_events_of_a_task_belong_to_its_flow() -> None:
    """A task that another enqueues has its correlation id."""
    with outbox.use_context(correlation_id="flow-1"):
        result = tasks.add.enqueue(1)

    assert message_of(result).correlation_id == "flow-1"


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


@postgresql
def test_a_consumer_runs_tasks(queue: Queue, database_url: str) -> None:
    """With RabbitMQ between relay and consumer, in processes of their own."""
    setting = {"default": backend(GROUP=queue.name)}
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

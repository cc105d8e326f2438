"""Tasks that fail: what is kept, told and tried again."""

import logging
import traceback
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import django
import pytest
from django.core.management import call_command
from django.db import transaction
from django.utils import timezone

import outbox
from inbox import Reject
from inbox.models import Receipt
from tests.inbox import task_functions as tasks
from tests.inbox.django_tasks.support import message_of, payload_of, run_tasks
from tests.inbox.support import effects, make_due, postgresql, receive, turn

if django.VERSION >= (6, 0):
    from django.tasks import TaskResultStatus as Status
    from django.tasks import default_task_backend
    from django.tasks.exceptions import TaskResultDoesNotExist
    from django.tasks.signals import task_enqueued, task_finished, task_started
else:
    from django_tasks import TaskResultStatus as Status
    from django_tasks import default_task_backend
    from django_tasks.exceptions import TaskResultDoesNotExist
    from django_tasks.signals import task_enqueued, task_finished, task_started
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.sqlite]


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


@pytest.mark.parametrize("text", ["one", "one\ntwo\n\nthree ", "", "x" * 1500])
def test_a_traceback_has_the_form_of_the_framework(text: str) -> None:
    """Whatever the exception says: it is what Python prints, to the newline at its end."""
    result = tasks.fail_with.enqueue(text)
    run_tasks()
    result.refresh()

    [error] = result.errors
    said = f": {text}" if text else ""
    assert error.exception_class is LookupError
    assert error.traceback.startswith("Traceback (most recent call last):\n")
    assert error.traceback.endswith(f"\nLookupError{said}\n")
    assert "fail_with" in error.traceback


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
    assert error.traceback.startswith("Traceback (most recent call last):\n  ...\n")
    assert error.traceback.endswith("\nValueError: level 40\n")
    assert len(error.traceback) <= 4000
    receipt = Receipt.objects.get(message_id=result.id)
    assert receipt.error.startswith("builtins.ValueError: level 40\n")
    assert len(receipt.error) <= 4000


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
    call_command("inbox_retry", "--handler", "django.task.default", "--wait=0", verbosity=0)
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


FRAMEWORK = "django.tasks" if django.VERSION >= (6, 0) else "django_tasks"


def failures_told(caplog: pytest.LogCaptureFixture) -> list[BaseException]:
    """The exceptions with which the framework has told that tasks failed."""
    told = [each for each in caplog.records if each.name == FRAMEWORK and each.exc_info]
    assert all(each.levelname == "ERROR" for each in told)
    assert not any("NoneType: None" in (each.exc_text or "") for each in caplog.records)
    return [each.exc_info[1] for each in told]  # type: ignore[misc,index]


def test_a_failure_is_logged_with_its_exception(caplog: pytest.LogCaptureFixture) -> None:
    """By the framework's own receiver, and by all that are written like it."""
    tasks.fail.enqueue(7)
    with caplog.at_level(logging.ERROR, FRAMEWORK):
        run_tasks()

    [told] = failures_told(caplog)
    assert (type(told), str(told)) == (LookupError, "no luck with 7")
    frames = [each.name for each in traceback.extract_tb(told.__traceback__)]
    assert frames[-1] == "fail"


def test_what_is_rejected_is_logged_with_the_verdict(caplog: pytest.LogCaptureFixture) -> None:
    tasks.reject.enqueue()
    with caplog.at_level(logging.ERROR, FRAMEWORK):
        run_tasks()

    [told] = failures_told(caplog)
    assert isinstance(told, Reject)


@pytest.mark.usefixtures("thrice")
def test_a_task_that_never_raised_is_logged_with_words(caplog: pytest.LogCaptureFixture) -> None:
    """Its process died, so there is no exception to tell."""
    result = tasks.fail.enqueue(1)
    receive(message_of(result), group="tasks")
    make_due()
    Receipt.objects.update(begun=3, begun_at=timezone.now() - timedelta(hours=1))
    with caplog.at_level(logging.ERROR, FRAMEWORK):
        turn("tasks")

    [told] = failures_told(caplog)
    assert type(told).__name__ == "TaskFailed"
    assert str(told).startswith("3 processes ended")

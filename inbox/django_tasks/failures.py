"""The error of a task, as text that its receipt keeps, and back."""

import re

from inbox.calling.calls import Failed
from inbox.django_tasks.framework import TaskError
from inbox.states import Reason
from inbox.verdicts import Reject, Retry
from outbox.error_text import MAX_ERROR, path_of, text_of, traceback_of

_HEAD = re.compile(r"([A-Za-z_]\w*(?:\.\w+)+)(?:: |:?\n|:?$)")
_CUT = "\n  ...\n"
_START = "Traceback (most recent call last):"


class TaskFailed(Exception):
    """A task failed, and its receipt does not tell the class of an exception."""


class TaskNotFound(Exception):
    """There is no task of the path that a message names."""


class ResultTooLarge(ValueError):
    """What a task has returned takes more space than a receipt gives it."""


_VERDICTS: dict[str, str] = {Reason.REJECTED: path_of(Reject), Reason.RETRY: path_of(Retry)}


def failed(exc: BaseException) -> Failed:
    """Return an exception whose text is a line that names `exc`, and its traceback.

    The end of a long traceback says more than its beginning.
    """
    head = f"{path_of(type(exc))}: {text_of(exc)}".partition("\n")[0][: MAX_ERROR // 2]
    lines = traceback_of(exc).removesuffix("\n")
    room = MAX_ERROR - max(len(head), len(_START) + 1) - len(_CUT)
    return Failed(f"{head}\n{lines}" if len(lines) < room else f"{head}{_CUT}{lines[-room:]}")


def read(text: str | None, reason: str | None) -> list[TaskError]:
    """Return what a receipt says of a task's last failure, if it has failed.

    A traceback has the form that the framework gives it.
    """
    if not text:
        return []
    if path := _VERDICTS.get(reason or ""):
        return [TaskError(exception_class_path=path, traceback=text)]
    head = _HEAD.match(text)
    if head is None:
        return [TaskError(exception_class_path=path_of(TaskFailed), traceback=text)]
    return [TaskError(exception_class_path=head[1], traceback=_traceback(text))]


def _traceback(text: str) -> str:
    """Return the traceback behind the first line of what failed() has written."""
    head, _, lines = text.partition("\n")
    if not lines:
        return text
    if text[len(head) :].startswith(_CUT):
        lines = f"{_START}\n{lines}"
    return f"{lines}\n"


def raised(exc: BaseException | None, error: TaskError | None) -> BaseException:
    """Return what a task has raised; where it did not, an exception that says why it failed."""
    if isinstance(exc, Failed) and exc.__cause__ is not None:
        return exc.__cause__
    return exc or TaskFailed(error.traceback if error else "")

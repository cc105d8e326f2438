"""The error of a task, as text that its receipt keeps, and back."""

import re
from traceback import format_exception

from inbox.calls import MAX_ERROR, Failed
from inbox.tasks.framework import TaskError
from inbox.verdicts import Reject, Retry

_HEAD = re.compile(r"([A-Za-z_]\w*(?:\.\w+)+)(?:: |:?\n|:?$)")
_CUT = "\n  ...\n"


class TaskFailed(Exception):
    """A task failed, and its receipt does not tell the class of an exception."""


class TaskNotFound(Exception):
    """There is no task of the path that a message names."""


class ResultTooLarge(ValueError):
    """What a task has returned takes more space than a receipt gives it."""


def path_of(kind: type[BaseException]) -> str:
    """Return the path of an exception's class."""
    return f"{kind.__module__}.{kind.__qualname__}"


_VERDICTS = {"rejected": path_of(Reject), "retry": path_of(Retry)}


def failed(exc: BaseException) -> Failed:
    """Return an exception whose text is the path of the class of `exc`, and its traceback.

    The end of a long traceback says more than its beginning.
    """
    head = f"{path_of(type(exc))}: {exc}"[: MAX_ERROR // 2]
    lines = "".join(format_exception(exc)).rstrip()
    room = MAX_ERROR - len(head) - len(_CUT)
    return Failed(f"{head}\n{lines}" if len(lines) < room else f"{head}{_CUT}{lines[-room:]}")


def read(text: str | None, reason: str | None) -> list[TaskError]:
    """Return what a receipt says of a task's last failure, if it has failed."""
    if not text:
        return []
    head = _HEAD.match(text)
    path = _VERDICTS.get(reason or "") or (head[1] if head else path_of(TaskFailed))
    return [TaskError(exception_class_path=path, traceback=text)]

"""Whether what is being sent is sent by a worker: by one of its tasks, or by the worker itself."""

import threading
from contextvars import ContextVar
from functools import wraps
from typing import Any

from celery import signals
from celery._state import _task_stack  # type: ignore[attr-defined]  # the stubs lack it

_process = 0
"""Workers that run in the main thread. The children that they fork inherit it."""
_thread: ContextVar[bool] = ContextVar("outbox_celery_worker_thread", default=False)


def in_worker() -> bool:
    """Tell whether a worker is sending here and now.

    A worker of the `celery` command has its process for itself. One that is embedded, as in a test,
    has a thread; its pool may have others, in which there are tasks and nothing else.
    """
    if _process or _thread.get():
        return True
    running = [task.request for task in _task_stack.stack or ()]
    return any(not request.called_directly and not request.is_eager for request in running)


@signals.worker_init.connect(dispatch_uid=__name__)
def _watch(sender: Any = None, **_: Any) -> None:
    """Note when the worker starts, in which thread, and when it has ended."""
    if not hasattr(sender, "start"):
        return
    start = sender.start

    @wraps(start)
    def start_and_tell(*args: Any, **kwargs: Any) -> Any:
        global _process
        main = threading.current_thread() is threading.main_thread()
        _process += main
        token = _thread.set(True)
        try:
            return start(*args, **kwargs)
        finally:
            _thread.reset(token)
            _process -= main

    sender.start = start_and_tell

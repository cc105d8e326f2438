"""Tell a person's Ctrl-C from an exception that somebody's code raises."""

import signal
import threading


def is_interrupt(exc: BaseException) -> bool:
    """Tell whether an exception is a person's Ctrl-C, and none that the running code has raised.

    Where a Shutdown handles signals, or in a thread, Ctrl-C raises nothing.
    """
    return (
        issubclass(type(exc), KeyboardInterrupt)
        and threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )

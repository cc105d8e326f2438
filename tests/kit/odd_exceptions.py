"""A zoo of exceptions that code of others may raise: each name with a function that raises it."""

import asyncio
import sqlite3
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import DatabaseError, InterfaceError, OperationalError
from django.utils.functional import lazystr

from inbox import Reject, Retry

Raise = Callable[[], object]
ODD: dict[str, Raise] = {}
MEGABYTES = 3 * 1024 * 1024


def odd(function: Raise) -> Raise:
    ODD[function.__name__] = function
    return function


def each_odd(function: Any) -> Any:
    """Run a test with each of them."""
    return pytest.mark.parametrize("name", ODD)(function)


def boom(*_: object, **__: object) -> Any:
    raise RuntimeError("of the exception itself")


def leave(*_: object, **__: object) -> Any:
    raise SystemExit(3)


def interrupt(*_: object, **__: object) -> Any:
    raise KeyboardInterrupt


def recurse(*_: object, **__: object) -> Any:
    return again(0)


# Without *args: Python 3.13.0 does not count the calls of a function that has them, and takes
# all memory.
def again(number: int) -> Any:
    return again(number + 1)


def made(**attributes: Any) -> type[Exception]:
    return type("Made", (Exception,), attributes)


class Text(str):
    """Text that fails at most of what is done with text."""

    __format__ = __add__ = __getitem__ = __len__ = strip = replace = encode = boom
    __eq__ = boom
    __hash__ = str.__hash__


# --- Text ------------------------------------------------------------------------------------


def _of_str(name: str, function: Callable[..., Any]) -> None:
    def throw() -> None:
        raise made(__str__=function, __repr__=function)("hidden")

    ODD[name] = throw


_of_str("str_raises", boom)
_of_str("str_exits", leave)
_of_str("str_interrupts", interrupt)
_of_str("str_recurses", recurse)
_of_str("str_is_none", lambda _: None)
_of_str("str_is_bytes", lambda _: b"bytes")
_of_str("str_is_lazy", lambda _: lazystr("translated later"))
_of_str("str_is_a_subclass", lambda _: Text("of a subclass"))
_of_str("str_is_megabytes", lambda _: "m" * MEGABYTES)
_of_str("str_is_not_storable", lambda _: "\x00 and \ud800")
ODD["str_is_no_function"] = lambda: throw(made(__str__=None)("x"))


def throw(exc: BaseException) -> None:
    raise exc


@odd
def arguments_of_megabytes() -> None:
    huge = type("Huge", (), {"__repr__": lambda _: "r" * MEGABYTES})
    raise ValueError(huge(), huge())


@odd
def arguments_that_exit() -> None:
    raise ValueError(type("Odd", (), {"__repr__": leave})(), 1)


@odd
def nothing_said() -> None:
    raise ValueError


@odd
def a_lazy_argument() -> None:
    raise ValueError(lazystr("translated later"))


@odd
def never_initialised() -> None:
    raise UnicodeDecodeError.__new__(UnicodeDecodeError)


# --- Class -----------------------------------------------------------------------------------


@odd
def a_class_with_odd_names() -> None:
    kind = made(__module__=None)
    kind.__qualname__ = "a\x00b\ud800"
    raise kind("x")


@odd
def a_metaclass_that_raises() -> None:
    meta = type(
        "Meta",
        (type,),
        {
            "__qualname__": property(boom),
            "__name__": property(boom),
            "__module__": property(boom),
            "__str__": boom,
            "__repr__": boom,
            "__subclasscheck__": boom,
            "__instancecheck__": boom,
            "mro": lambda cls: type.mro(cls),
        },
    )
    raise meta("Made", (Exception,), {})("x")


@odd
def a_class_that_lies() -> None:
    raise made(__class__=property(leave))("x")


@odd
def attributes_that_exit() -> None:
    raise made(
        **dict.fromkeys(
            ("__cause__", "__context__", "__traceback__", "__notes__", "__suppress_context__"),
            property(leave),
        ),
        sqlstate=property(leave),
        args=property(leave),
    )("x")


@odd
def false_and_not_hashable() -> None:
    raise made(__bool__=lambda _: False, __eq__=boom, __hash__=None, __len__=boom)("x")


@odd
def a_syntax_error_of_nothing() -> None:
    exc = SyntaxError("x")
    exc.text, exc.lineno, exc.offset, exc.filename = object(), "y", boom, 7  # type: ignore[assignment]
    raise exc


@odd
def a_name_that_is_looked_for() -> None:
    raise AttributeError("x", name="y", obj=type("Odd", (), {"__dir__": leave})())


# --- Chains ----------------------------------------------------------------------------------


@odd
def notes_of_no_kind() -> None:
    exc = ValueError("x")
    exc.__notes__ = [Text("n"), None, type("Odd", (), {"__str__": leave})()]  # type: ignore[list-item]
    raise exc


@odd
def causes_in_a_circle() -> None:
    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one
    raise one


@odd
def ten_thousand_causes() -> None:
    exc: Exception = ValueError("first")
    for _ in range(10_000):
        later = ValueError("later")
        later.__cause__ = exc
        exc = later
    raise exc


@odd
def ten_thousand_contexts() -> None:
    exc: Exception = ValueError("first")
    for _ in range(10_000):
        later = ValueError("later")
        later.__context__ = exc
        exc = later
    raise exc


@odd
def no_end_of_calls() -> None:
    recurse()


@odd
def a_group_in_a_thousand_groups() -> None:
    exc: Exception = made(__str__=boom)("x")
    for _ in range(1_000):
        exc = ExceptionGroup("group", [exc])
    raise exc


@odd
def a_group_of_ten_thousand() -> None:
    raise ExceptionGroup("group", [ValueError(n) for n in range(10_000)])


@odd
def a_group_with_an_interrupt() -> None:
    raise BaseExceptionGroup("group", [KeyboardInterrupt(), SystemExit(1)])


# --- What is no Exception, and what has a meaning ---------------------------------------------

ODD["an_exit"] = lambda: throw(SystemExit(0))
ODD["an_exit_with_an_object"] = lambda: throw(SystemExit(object()))
ODD["the_end_of_a_generator"] = lambda: throw(GeneratorExit())
ODD["a_cancelled_task"] = lambda: throw(asyncio.CancelledError())
ODD["the_end_of_an_iterator"] = lambda: throw(StopIteration(1))
ODD["no_memory"] = lambda: throw(MemoryError())
ODD["a_bare_base_exception"] = lambda: throw(type("Bare", (BaseException,), {})("x"))
ODD["an_assertion"] = lambda: throw(AssertionError())


@odd
def a_retry_that_is_not_initialised() -> None:
    raise type("Again", (Retry,), {"__init__": lambda self: None, "__str__": boom})()


@odd
def a_retry_after_something() -> None:
    exc = Retry()
    exc.after = "soon"  # type: ignore[assignment]
    raise exc


@odd
def a_retry_in_the_past() -> None:
    exc = Retry()
    exc.after = timedelta(days=-10_000_000)
    raise exc


@odd
def a_rejection_without_text() -> None:
    raise type("No", (Reject,), {"__str__": leave})


# --- Of a database that is well ----------------------------------------------------------------


@odd
def a_database_error_of_nothing() -> None:
    raise OperationalError


@odd
def a_database_error_of_objects() -> None:
    raise InterfaceError(object(), {"a": boom}, None)


@odd
def a_database_error_with_an_odd_cause() -> None:
    raise DatabaseError("x") from made(sqlstate=5, __str__=boom)("y")


@odd
def a_database_error_that_exits() -> None:
    raise type("Made", (OperationalError,), {"__str__": leave})("x")


@odd
def an_error_of_another_driver() -> None:
    cause = sqlite3.OperationalError("x")
    cause.sqlite_errorcode = "odd"  # type: ignore[assignment]
    raise DatabaseError("x") from cause

"""What a handler of a request says that it returns."""

import inspect
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from inbox.handlers.registry import Handler
from inbox.replies.answering import Later
from outbox.message.event_types import EventType


def no_replies(handler: Handler, asked: EventType) -> list[str]:
    """Return what a handler says to return, if none of that answers a request; else nothing.

    One that says nothing, or may return anything, is not blamed. None beside a reply is right: of
    several handlers, one may answer.
    """
    try:
        said = inspect.signature(handler.function, eval_str=True).return_annotation
    except Exception:  # names that exist for type checkers alone, or a function in C
        return []
    if said is inspect.Signature.empty:
        return []
    parts = [NoneType if each is None else each for each in _parts(said)]
    if any(_may_answer(each, asked) for each in parts):
        return []
    return sorted("None" if each is NoneType else each.__qualname__ for each in parts)


def _parts(said: Any) -> tuple[Any, ...]:
    return get_args(said) if get_origin(said) in (Union, UnionType) else (said,)


def _may_answer(said: Any, asked: EventType) -> bool:
    """Tell whether what is of a class may be a reply, or says that one comes later."""
    if said is Any or not isinstance(said, type):
        return True
    return any(issubclass(each, said) or issubclass(said, each) for each in (*asked.replies, Later))

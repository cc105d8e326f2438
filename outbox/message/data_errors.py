"""Say what is wrong with data: where, and of what kind, never which value.

Errors end in logs and dead letters, where nobody expects the personal data of a payload. The texts
of msgspec and pydantic quote values now and then; those of the classes themselves may do so, too.
"""

import re
import sys
import traceback
from types import ModuleType

import msgspec

from outbox.error_text import MAX_ERROR, is_a, name_of, storable, text_of
from outbox.exceptions import OutboxError

SHOWN = 5
"""Errors of one pydantic model that are told."""

_NAME = re.compile(r"[^\W\d]\w{0,63}")
# What msgspec appends to the kind of an error; the keys of a dict are dots in it.
_PLACE = re.compile(r" - at (?:(`key`) in )?`(\$[^`]*)`\Z")
_QUOTING = re.compile(
    r"(Invalid enum value|Invalid value|Object contains unknown field) .*", re.DOTALL
)
_FIELD = re.compile(r"\[field_name='(\w+)'")


def describe(exc: BaseException, *, within: str) -> str:
    """Return path and kind of what `exc` says about data.

    `within` is the file of the code that has called msgspec, pydantic or a class: what was raised
    further in comes from the class, and only its type is told.
    """
    try:
        return _described(exc, within)
    except BaseException:  # of an exception that cannot tell what is wrong
        return _own(exc)


def _described(exc: BaseException, within: str) -> str:
    core = _pydantic_core()
    if is_a(exc, msgspec.ValidationError):
        return _of_msgspec(exc)
    if core and is_a(exc, core.ValidationError):
        return _of_pydantic(exc)
    if core and is_a(exc, core.PydanticSerializationError):
        return _of_serializer(exc)
    if is_a(exc, UnicodeError):
        return storable(str(getattr(exc, "reason", "not Unicode")), MAX_ERROR)
    if is_a(exc, RecursionError):
        return "nested too deeply"
    if is_a(exc, OutboxError) or _raised_in(exc) == within:
        return text_of(exc)
    return _own(exc)


def cause(exc: BaseException) -> BaseException | None:
    """Return what a traceback may show as the cause of an error: nothing that quotes data."""
    core = _pydantic_core()
    quoting: tuple[type[BaseException], ...] = (msgspec.ValidationError,)
    if core:
        quoting += (core.ValidationError, core.PydanticSerializationError)
    return exc.__cause__ if is_a(exc, *quoting) else exc


def _of_msgspec(exc: BaseException) -> str:
    text = text_of(exc)
    place = _PLACE.search(text)
    kind = text if place is None else text[: place.start()]
    kind = _own(exc.__cause__) if exc.__cause__ else _QUOTING.sub(r"\1", kind)
    if place is None:
        return kind
    return f"{kind} at {'a key of ' if place[1] else ''}{place[2]}"


def _of_pydantic(exc: BaseException) -> str:
    errors = exc.errors(  # type: ignore[attr-defined]
        include_input=False, include_url=False, include_context=False
    )
    # Not `msg`: it can quote the tag of a union, and what a validator of the class has said.
    told = [f"{error['type']} at {_path(error['loc'])}" for error in errors[:SHOWN]]
    more = len(errors) - SHOWN
    return "; ".join(told) + (f"; and {more} more" if more > 0 else "")


def _of_serializer(exc: BaseException) -> str:
    if exc.__cause__:
        return _own(exc.__cause__)
    field = _FIELD.search(text_of(exc))  # the first one comes before any value
    return f"a value is not of its field's type{f' at $.{field[1]}' if field else ''}"


def _path(location: tuple[str | int, ...]) -> str:
    """Return a place as msgspec writes it; what cannot be the name of a field may be data."""
    return "$" + "".join(map(_step, location))


def _step(step: str | int) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    return f".{step}" if _NAME.fullmatch(step) else "[...]"


def _own(exc: BaseException) -> str:
    return f"its class raised {name_of(exc)}"


def _raised_in(exc: BaseException) -> str:
    """Return the file of the innermost Python code that an exception has come through."""
    frames = [frame.f_code.co_filename for frame, _line in traceback.walk_tb(exc.__traceback__)]
    return frames[-1] if frames else ""


def _pydantic_core() -> ModuleType | None:
    """Return pydantic's core if anybody uses it, without importing it."""
    return sys.modules.get("pydantic_core")

"""Text of exceptions that others have raised: bounded, storable, and made without ever failing.

Whatever code we call may raise what it likes: with a `__str__` that raises SystemExit, returns None
or megabytes, with causes that go in a circle, of a class that lies about its name. None of it may
end the process that only wants to tell of it. Nothing can interrupt a `__str__` that sleeps: it
costs its time for the error, for the traceback, and for that of the log if it is a longer one.
"""

import logging
import re
import traceback
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from itertools import islice
from typing import Any

from django.utils.functional import Promise

from outbox.interrupts import is_interrupt

MAX_ERROR = 4_000
"""Characters of an error that are kept."""
MAX_TRACEBACK = 32_000
"""Characters of a traceback that are logged."""
MAX_FRAMES = 100
"""Calls of one traceback: the innermost ones."""
MAX_CAUSES = 20
"""Exceptions of one chain."""
HIDDEN = "•••"
"""What stands in the place of a secret."""

_CUT = "\n  ...\n"
# As BaseException and type have them, whatever a class makes of these names.
_cause = BaseException.__dict__["__cause__"].__get__
_context = BaseException.__dict__["__context__"].__get__
_suppressed = BaseException.__dict__["__suppress_context__"].__get__
_members = BaseExceptionGroup.__dict__["exceptions"].__get__
_traceback = BaseException.__dict__["__traceback__"].__get__
_qualname = type.__dict__["__qualname__"].__get__
_module = type.__dict__["__module__"].__get__


def storable(text: str, most: int | None = None) -> str:
    """Return text that a text column takes: no NUL, no lone surrogates, not too long."""
    if most is not None:
        text = text[:most]
    clean = text.replace("\x00", "\\x00").encode(errors="backslashreplace").decode()
    return clean if most is None else clean[:most]


def text_of(exc: BaseException, most: int = MAX_ERROR) -> str:
    """Return what an exception says, or in angle brackets why it says nothing."""
    try:
        # Not str(exc), which takes no lazy translation, and fails on it.
        text: object = type(exc).__str__(exc)
        if isinstance(text, Promise):
            text = str(text)
        if isinstance(text, str):
            return storable(str.__getitem__(text, slice(most)), most)  # no subclass of str
        why = f"__str__ returned {_name(type(text))}"
    except BaseException as failure:
        why = f"__str__ raised {_name(type(failure))}"
    return f"<no text: {why}>"


def describe(exc: BaseException, most: int = MAX_ERROR) -> str:
    """Return the type of an exception and what it says."""
    return f"{_name(type(exc))}: {text_of(exc, most)}"[:most]


def name_of(value: object) -> str:
    """Return the name of a value's class."""
    return _name(type(value))


def path_of(kind: type) -> str:
    """Return the path of a class."""
    try:
        module = _module(kind)
    except BaseException:
        module = None
    home = storable(module, 100) if type(module) is str else "builtins"
    return f"{home}.{_name(kind)}"


def is_a(exc: BaseException, *kinds: type[BaseException]) -> bool:
    """Tell whether an exception is of one of these classes, whatever it says of its class."""
    return issubclass(type(exc), kinds)


def causes(exc: BaseException) -> Iterator[BaseException]:
    """Yield an exception and what it was raised from, each once, at most MAX_CAUSES."""
    seen: set[int] = set()
    found: BaseException | None = exc
    while found is not None and id(found) not in seen and len(seen) < MAX_CAUSES:
        seen.add(id(found))
        yield found
        found = _cause(found)


def traceback_of(exc: BaseException, most: int = MAX_TRACEBACK, *, frames: int = MAX_FRAMES) -> str:
    """Return the traceback of an exception as Python writes it; of a long one the middle is cut.

    It has the innermost `frames`.
    """
    try:
        text = _as_python_writes(exc, frames) if _is_short(exc) else _in_brief(exc)
    except BaseException:
        text = _in_brief(exc)
    return storable(cut(text, most))


def cut(text: str, most: int) -> str:
    """Return a text without its middle, if it is too long."""
    if len(text) <= most:
        return text
    head = most // 4
    return f"{text[:head]}{_CUT}{text[head + len(_CUT) - most :]}"


def ended(text: str) -> str:
    """Return what somebody else says as a sentence, which may have its end already."""
    text = text.rstrip()
    return text if text.endswith((".", "?", "!")) else f"{text}."


def masked(text: str, words: tuple[str, ...]) -> str:
    """Return a text with ••• for what seems to be secret; more than that rather than less.

    That is the value behind a name that has one of `words` in it, in any case, with `-` like `_`:
    as `name=value`, `name: value`, in JSON, in Python's own notation, or as PostgreSQL says of a
    key. Also what stands before the `@` of a URL, the values of a row that PostgreSQL refuses, and
    what pydantic quotes. The time is about proportional to the text's length, whatever is in it.
    """
    return _secrets(words).sub(lambda found: f"{found[found.lastindex or 0]}{HIDDEN}", text)


def log(
    logger: logging.Logger,
    level: int,
    message: str,
    *values: object,
    exc: BaseException | None,
    traceback: str | None = None,
) -> None:
    """Log with the traceback of an exception that somebody else has raised.

    `traceback` is that as text, where it was made already. A log handler gets the exception itself
    as well. If it fails on it, it gets the text alone.
    """
    if not logger.isEnabledFor(level):
        return
    file, line, function, _ = logger.findCaller(stacklevel=2)
    info: Any = (type(exc), exc, _traceback(exc)) if exc is not None else None
    record = logger.makeRecord(logger.name, level, file, line, message, values, info, function)
    if exc is not None:
        record.exc_text = traceback or traceback_of(exc)
    try:
        logger.handle(record)
    except BaseException as failure:
        if exc is None or is_interrupt(failure):
            raise
        record.exc_info = None
        with suppress(Exception):
            logger.handle(record)


# A quoted value, to the end of its line if it has no end; a nested one, of which nobody knows where
# it ends; and a plain one, or a name in front of one of those. Numbers of cards and accounts are
# written in groups.
_QUOTED = r"""'(?:\\.|[^'\\\n])*'?|"(?:\\.|[^"\\\n])*"?"""
_NESTED = r"[(\[{][^\n]*"
_PLAIN = r"""(?:[^\s,;&(){}\[\]'"]|[,;](?=[^\s'"]))+"""
_GROUPS = r"(?-i:(?:[ ][A-Z0-9]{2,4}\b){0,9})"
_SCHEME = r"(?:(?:bearer|basic|digest|token)[ ]{1,3})?"
_VALUE = rf"{_SCHEME}(?:{_PLAIN}(?:{_QUOTED}|{_NESTED})?{_GROUPS}|{_QUOTED}|{_NESTED})"
_IS = r"[ \t]{0,3}(?:=>|[:=]=?)[ \t]{0,3}"
_NOTHING = r"(?!)"
# Each consumes what it has looked at, but for a bounded part: hostile text costs no more time.
_ANY = (
    r"(://)[^\s/?#'\"<>]{1,300}(?=@)",
    r"(Failing row contains \()(?:[^\n]*(?=\))|[^\n]*)",
    r"(\binput_value=)(?:[^\n]*(?=, input_type=)|[^\n]*)",
)


@lru_cache(8)
def _secrets(words: tuple[str, ...]) -> re.Pattern[str]:
    """Return what finds secrets; its only group that matches is what comes before one."""
    word = "|".join(re.sub(r"\\-|_", "[-_]", re.escape(each)) for each in words) or _NOTHING
    end = r"(?:[^\n]*(?=\) (?:already|is|conflicts)\b)|[^\n]*)"
    named = (
        rf"(\bKey \((?=[^\n]{{0,300}}?(?:{word}))[^\n]{{0,300}}?\)=\(){end}",
        rf"((?:{word})[\w-]{{0,64}}(?:\\?[\"'\])]){{0,2}}{_IS}){_VALUE}",
    )
    return re.compile("|".join([*_ANY, *named]), re.IGNORECASE)


def _name(kind: type) -> str:
    try:
        return storable(str.__getitem__(_qualname(kind), slice(200)))
    except BaseException:
        return "an exception"


def _is_short(exc: BaseException) -> bool:
    """Tell whether Python's own formatter would look at a bounded number of exceptions."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [exc]
    while waiting:
        found = waiting.pop()
        if found is None or id(found) in seen:
            continue
        seen.add(id(found))
        if len(seen) > MAX_CAUSES:
            return False
        waiting += [_cause(found), _context(found)]
        if is_a(found, BaseExceptionGroup):
            members: tuple[BaseException, ...] = _members(found)
            waiting += members[: MAX_CAUSES + 1]
    return True


def _as_python_writes(exc: BaseException, frames: int) -> str:
    found = traceback.TracebackException(
        type(exc), exc, _traceback(exc), limit=-frames, compact=True
    )
    return "".join(found.format())


def _in_brief(exc: BaseException) -> str:
    """Return a traceback of which no part can fail, each exception before what it led to."""
    parts = []
    for each in islice(_chain(exc), MAX_CAUSES):
        frames = ""
        with suppress(BaseException):
            frames = "".join(traceback.format_tb(_traceback(each), limit=-MAX_FRAMES))
        parts.append(f"Traceback (most recent call last):\n{frames}{describe(each)}\n")
    return "\n".join(reversed(parts))


def _chain(exc: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    found: BaseException | None = exc
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield found
        cause = _cause(found)
        found = cause if cause is not None or _suppressed(found) else _context(found)

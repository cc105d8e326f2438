"""The traceback of a failed attempt, as its receipt keeps it: bounded, with the service's frames.

It is made as that in the log is (see outbox.error_text), whatever the exception: source lines and
the texts of exceptions, never the values of variables; without what seems to be secret.
"""

import os
import re
import sysconfig
from pathlib import Path

from inbox.ledger.masking import masked
from outbox import error_text

MAX_TRACEBACK = 8_000
"""Characters that are kept: a quarter from the beginning, the rest from the end."""
MAX_READ = 500_000
"""Characters of which those are chosen, most of which are frames of libraries."""
MAX_MASKED = 100_000
"""Characters that are looked through for secrets."""
MAX_FRAMES = 1_000
"""Calls of which those are chosen: a recursion that has gone too deep has about so many."""

_FRAME = re.compile(r'([ |]*)  File "([^"\n]*)", line ')
# Of other installations as well: the process that failed may have had another one.
_INSTALLED = re.compile(r"[\\/](site|dist)-packages[\\/]|[\\/]lib[\\/]python3\.\d+[\\/]|^<frozen ")
_OURS = (str(Path(__file__).parents[1]), str(Path(error_text.__file__).parent))
_LIBRARIES = tuple(
    os.path.join(each, "")
    for each in (*_OURS, sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"))
)


def traceback_of(exc: BaseException) -> str:
    """Return the traceback of an exception; of a long one the frames of libraries go first."""
    text = error_text.traceback_of(exc, MAX_READ, frames=MAX_FRAMES)
    if len(text) > MAX_TRACEBACK:
        text = error_text.cut(without_libraries(text), MAX_MASKED)
    return error_text.cut(masked(text), MAX_TRACEBACK)


def is_cut(text: str) -> bool:
    """Tell whether something was left out of a traceback."""
    return "  ...\n" in text


def without_libraries(text: str) -> str:
    """Return a traceback with an ellipsis for frames that are none of the service's own code."""
    lines: list[str] = []
    left_out: str | None = None  # what the lines of such a frame begin with
    for line in text.splitlines(keepends=True):
        if found := _FRAME.match(line):
            left_out = found[1] if is_library(found[2]) else None
            ellipsis = f"{left_out}  ...\n"
            if left_out is not None and lines[-1:] != [ellipsis]:
                lines.append(ellipsis)
        elif left_out is not None and not line.startswith((f"{left_out}    ", f"{left_out}  [")):
            left_out = None
        if left_out is None:
            lines.append(line)
    return "".join(lines)


def is_library(path: str) -> bool:
    """Tell whether a file is one of Python's, of a package that is installed, or of ours."""
    return path.startswith(_LIBRARIES) or bool(_INSTALLED.search(path))

"""Where an exception comes from: the innermost call of a traceback that is the service's own."""

import re
from collections.abc import Callable

from outbox.extensions.failures import Frame

MAX_CODE = 200
"""Characters of a source line that are compared, and shown."""
PARTS = 2
"""The last parts of a path: what is before them changes with every deployment."""

_FRAME = re.compile(
    r'^[ |]*  File "(?P<path>[^"\n]+)", line (?P<line>\d+)(?:, in (?P<function>[^\n]+))?'
    r"(?:\n[ |]*    (?P<code>[^\n]*))?",
    re.MULTILINE,
)


def own_frame(traceback: str, is_library: Callable[[str], bool]) -> Frame | None:
    """Return the innermost frame whose file is of no library, if a traceback has one."""
    found = None
    for match in _FRAME.finditer(traceback):
        if not is_library(match["path"]):
            found = match
    if found is None:
        return None
    parts = [part for part in re.split(r"[\\/]", found["path"]) if part]
    return Frame(
        file="/".join(parts[-PARTS:]),
        function=found["function"] or "",
        code=(found["code"] or "").strip()[:MAX_CODE],
        line=int(found["line"][:9]),
    )

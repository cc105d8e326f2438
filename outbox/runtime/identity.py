"""Who this is."""

import os
import socket
from functools import cache


@cache
def process_name() -> str:
    """Return the name under which checkpoints say who published: host and process id."""
    return f"{socket.gethostname()[:200]}:{os.getpid()}"

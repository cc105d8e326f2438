"""What happens in the test app.

TEST_KILL_READING names a number that ends the process which reads it, as too large an event might.
"""

import os
import signal
from dataclasses import dataclass

import outbox


@outbox.event("tests.happened", key="key")
@dataclass(frozen=True, slots=True)
class Happened:
    """An event that says which of its key it is."""

    key: str
    number: int

    def __post_init__(self) -> None:
        if os.environ.get("TEST_KILL_READING") == str(self.number):
            os.kill(os.getpid(), signal.SIGKILL)

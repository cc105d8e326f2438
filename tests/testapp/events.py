"""What happens in the test app."""

from dataclasses import dataclass

import outbox


@outbox.event("tests.happened", key="key")
@dataclass(frozen=True, slots=True)
class Happened:
    """An event that says which of its key it is."""

    key: str
    number: int

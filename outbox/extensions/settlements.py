"""The port at which others say of which requests they want to be told how they have ended.

Whoever is told gets a message at the address of this service, in the transaction of the end, so it
is told once; see outbox.message.requests.SETTLED. Handlers here register with it, and so may what
calls somebody back in another way.
"""

from collections.abc import Callable

Wanted = Callable[[str, int], bool]
"""Tells whether the end of requests of a type, in a version, is wanted. Asks no database."""

_wanted: list[Wanted] = []


def register_wanted(wanted: Wanted) -> None:
    """Let the end of requests be told that a function wants, from now on."""
    if wanted not in _wanted:
        _wanted.append(wanted)


def is_wanted(request_type: str, version: int) -> bool:
    """Tell whether anybody wants to know how requests of a type end."""
    return any(wanted(request_type, version) for wanted in _wanted)

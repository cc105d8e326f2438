"""What processes have on the wire: who says something, and the timers that they send themselves."""

from collections.abc import Mapping

PROCESS_ID = "processid"
"""The attribute of what an instance says: its process and its key, joined by a slash."""
TIMER = "outbox.process.timer"
"""The type of what an instance sends to itself, to be delivered when a timer is due."""
TIMER_NAME = "timername"
"""The attribute of that which says which timer it is."""

_OWNER = "process:"


def process_id(process: str, key: str) -> str:
    """Return what the messages of an instance say of where they come from."""
    return f"{process}/{key}"


def parts_of(attributes: Mapping[str, object]) -> tuple[str, str]:
    """Return the process and the key of the instance that has said a message; empty if none has."""
    found = attributes.get(PROCESS_ID)
    process, slash, key = found.partition("/") if isinstance(found, str) else ("", "", "")
    return (process, key) if slash else ("", "")


def owner_of(process_id: str) -> str:
    """Return as whose request one is kept that an instance asks."""
    return _OWNER + process_id


def asked_by(owner: str) -> str | None:
    """Return which instance has asked a request, by its owner; None if it was no instance."""
    return owner.removeprefix(_OWNER) if owner.startswith(_OWNER) else None

"""The names of the scenario, for the service and for those who judge it without Django."""

CHANGED = "faults.changed"
RARE = "faults.rare"
HOPPED = "faults.hopped"
ASKED, ANSWERED = "faults.asked", "faults.answered"
ANSWERS = "faults.answer"
"""The handler of requests, which leaves one effect for each as well."""

HANDLERS = {CHANGED: "faults.note", RARE: "faults.note-rare", HOPPED: "faults.note-hop"}
"""Which handler handles an event type; each leaves one effect for each event."""

HOP_EVERY, ASK_EVERY = 5, 7
"""The handler of every so many versions of a key emits a second event, and asks a question."""
CALL_EVERY = 2 * ASK_EVERY
"""The end of the question of every so many versions is told by a callback."""
TURN = "(version + split_part(key, '-', 2)::int)"
"""Which version a change counts as, in SQL: not all keys begin with the same."""
RARE_EVERY = 4
"""Every so many versions of a rare key the event is of the rare type."""

KEYS = tuple(f"key-{number}" for number in range(96))
RARE_KEYS = tuple(f"rare-{number}" for number in range(4))
"""Keys with events of both types: what holds the rare type up may hold these keys, no others."""


def kind_of(key: str, version: int) -> str:
    """Return the type of the event that a change of an aggregate emits."""
    return RARE if key in RARE_KEYS and version % RARE_EVERY == 0 else CHANGED


def turn_of(key: str, version: int) -> int:
    """Return which version a change counts as: not all keys begin with the same."""
    return version + int(key.partition("-")[2])


def hops(key: str, version: int) -> bool:
    """Tell whether the handler of this change emits an event of its own."""
    return turn_of(key, version) % HOP_EVERY == 0

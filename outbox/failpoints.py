"""Named points at which a test can kill the process; they do nothing unless it asks them to.

OUTBOX_FAILPOINT="relay.published:3" kills the process with SIGKILL the third time it passes the
point of that name. The variable is read once, when this module is imported.
"""

import os
import signal
from collections.abc import Callable

VARIABLE = "OUTBOX_FAILPOINT"

FAILPOINTS = frozenset(
    {
        "outbox.delivering",
        "outbox.delivered",
        "outbox.acknowledged",
        "outbox.closed",
        "outbox.stated",
        "outbox.compared",
        "operation.performed",
        "relay.read",
        "relay.published",
        "relay.retried",
        "relay.resending",
        "relay.resent",
        "relay.checkpointed",
        "relay.committed",
        "rebase.burned",
        "rebase.rewritten",
        "rebase.committed",
        "inbox.received",
        "inbox.handled",
        "inbox.told",
        "inbox.answered",
        "inbox.committed",
        "inbox.acked",
        "inbox.retrying",
        "inbox.retried",
        "inbox.task_handled",
        "inbox.task_committed",
    }
)


def _nothing(name: str) -> None:
    pass


def _killer(spec: str) -> Callable[[str], None]:
    target, _, count = spec.partition(":")
    if target not in FAILPOINTS:
        raise ValueError(f"{VARIABLE}: unknown failpoint {target!r}; known: {sorted(FAILPOINTS)}")
    if not (count or "1").isdecimal() or (remaining := int(count or 1)) < 1:
        raise ValueError(f"{VARIABLE}: {count!r} is not a number of passes, from 1 on")

    def hit(name: str) -> None:
        nonlocal remaining
        if name == target:
            remaining -= 1
            if remaining == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return hit


hit: Callable[[str], None] = _killer(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else _nothing

"""Undo what an instance has done: newest first, each awaited before the next. Pure policy."""

from collections.abc import Iterable

import msgspec

from inbox.processes.steps import Undo, UndoState

EXPIRED = "expired"


def told(undos: Iterable[Undo], request_id: str, end: str) -> tuple[tuple[Undo, ...], str]:
    """Return what can be undone after a request has ended, and what keeps it from being undone.

    `end` is the type of its reply, or its outcome. What was declined or has failed was not done.
    What has expired may have been done, so it is undone as well.
    """
    left: list[Undo] = []
    trouble = ""
    for each in undos:
        if each.request_id != request_id:
            left.append(each)
        elif each.state is UndoState.UNDOING:
            if end not in each.done_by:
                left.append(each)
                trouble = f"{each.undo.type} has not undone it: {end}"
        elif end in each.done_by or end == EXPIRED:
            left.append(msgspec.structs.replace(each, state=UndoState.DONE))
    return tuple(left), trouble


def newest_done(undos: tuple[Undo, ...]) -> Undo | None:
    """Return what is to be undone now; None while an answer is awaited, or if nothing is left."""
    return undos[-1] if undos and undos[-1].state is UndoState.DONE else None

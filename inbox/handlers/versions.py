"""Which versions of an event a group's handlers are for, and what they are given for them."""

import inspect
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any, get_origin

from inbox.handlers.registry import Handler
from outbox.message.event_types import EventType


class Expects(Enum):
    """What the first parameter of a handler says that it takes."""

    MAPPING = "plain JSON"
    ANYTHING = "nothing"
    """It has no annotation, or Any."""
    SOMETHING = "something else"


def served(wanting: Iterable[Handler], version: int) -> set[str]:
    """Return the groups that lose nothing of a version of an event, of handlers for its type.

    A handler of every version does not stand in for one that is for another version alone: what
    that one misses would be missed in silence.
    """
    groups = {each.group for each in wanting}
    return {group for group in groups if not _missing(wanting, group, version)}


def bound_to_versions(wanting: Iterable[Handler], group: str) -> list[Handler]:
    """Return the handlers of a group that are for one version each."""
    return [each for each in wanting if each.group == group and each.version is not None]


def missed(handlers: Iterable[Handler], event_type: EventType) -> list[Handler]:
    """Return the handlers of a group for an event type, if they are all for other versions of it.

    Those of every version are left out.
    """
    found = [each for each in handlers if each.version is not None and each.wants(event_type.name)]
    return [] if any(each.version == event_type.version for each in found) else found


def expects(handler: Handler) -> Expects:
    """Return what a handler's first parameter says that it is given."""
    try:
        parameters = inspect.signature(handler.function, eval_str=True).parameters.values()
    except Exception:  # names that exist for type checkers alone, or a function in C
        return Expects.SOMETHING
    said = next((each.annotation for each in parameters), inspect.Parameter.empty)
    if said is inspect.Parameter.empty or said is Any:
        return Expects.ANYTHING
    kind = get_origin(said) or said
    mapping = isinstance(kind, type) and issubclass(kind, Mapping)
    return Expects.MAPPING if mapping else Expects.SOMETHING


def _missing(wanting: Iterable[Handler], group: str, version: int) -> bool:
    bound = bound_to_versions(wanting, group)
    return bool(bound) and all(each.version != version for each in bound)

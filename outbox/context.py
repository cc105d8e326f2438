"""The port of what else goes the way of a message: from where it is emitted to its handlers.

Ids of flow and trace go along by themselves, see Context. A carrier takes something of the context
in which an event is emitted, as extension attributes of it, and gives it to its handlers.
"""

import logging
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import cache
from typing import Any

from outbox.bystanders import unharmed
from outbox.conf import outbox_settings
from outbox.error_text import describe, log
from outbox.exceptions import ConfigurationError
from outbox.interrupts import is_interrupt
from outbox.message.cloudevents import ATTRIBUTE_NAME, RESERVED, flaw
from outbox.message.context import Context, current_context, use_context
from outbox.message.origin import ATTRIBUTE, made

__all__ = ["Carrier", "Context", "current_context", "register_carrier", "use_context"]

logger = logging.getLogger("outbox")

MAX_CARRIED = 1024
"""Characters of one value; a longer one is left out."""
MAX_TOLD = 100
"""Problems that are logged, once each."""


class Carrier(ABC):
    """Carries one kind of thing. Whatever it raises is logged, and keeps no message from its way.

    `name` is what it is called; `attributes` are the names that it may use, of lower-case letters
    and digits: nothing else of it gets into a message, or out of one.
    """

    name: str
    attributes: tuple[str, ...]
    uses_database: bool = True
    """Set it to False for one that does not: nobody has to watch then what it leaves behind."""

    @abstractmethod
    def take(self) -> Mapping[str, str]:
        """Return what goes along, by attribute. Once for each emit(), so be quick."""

    @abstractmethod
    def give(self, values: Mapping[str, str]) -> AbstractContextManager[Any]:
        """Return a context for a handler, with what a message has brought along.

        It comes from outside, and may be anything. It is entered for each handler, in a context of
        its own, where there is any value; and cannot keep back what the handler raises.
        """


_carriers: dict[str, Carrier] = {}
_told: set[tuple[str, str]] = set()


def register_carrier(carrier: Carrier) -> None:
    """Let a carrier take part; a second one of its name replaces the first.

    Raises ConfigurationError for names that no attribute can have, or that another carrier has.
    """
    for attribute in carrier.attributes:
        if not ATTRIBUTE_NAME.fullmatch(attribute) or attribute in RESERVED:
            raise ConfigurationError(
                f"Carrier {carrier.name!r}: {attribute!r} cannot be an attribute. Use 1 to 20 "
                "lower-case letters or digits, and none that the outbox itself sets."
            )
        for other in _carriers.values():
            if attribute in other.attributes and other.name != carrier.name:
                raise ConfigurationError(
                    f"Carrier {carrier.name!r}: {other.name!r} has the attribute {attribute!r}."
                )
    _carriers[carrier.name] = carrier


def taken() -> dict[str, str]:
    """Return what goes along with what is emitted now."""
    found = originated()
    for carrier in tuple(_carriers.values()):
        try:
            values = _take(carrier) if carrier.uses_database else carrier.take()
            for attribute, value in values.items():
                if problem := _problem(carrier, attribute, value):
                    _leave_out(carrier, f"{attribute} {problem}")
                else:
                    found[attribute] = value
        except BaseException as exc:
            _contain(carrier, exc)
    return found


def originated() -> dict[str, str]:
    """Return the attribute that says what code it is that emits now, if that is known."""
    if not outbox_settings().ORIGIN:
        return {}
    found = current_context().origin or _command()
    return {ATTRIBUTE: found} if found else {}


@cache
def _command() -> str | None:
    """Return the origin of what a command of Django's does that says nothing else."""
    program, *arguments = sys.argv or [""]
    name = program.replace("\\", "/")
    runs = name.endswith(("manage.py", "django/__main__.py")) or name.endswith("django-admin")
    return made("command", arguments[0]) if runs and arguments else None


def given(attributes: Mapping[str, Any]) -> AbstractContextManager[None]:
    """Return the context that a message's attributes make for a handler."""
    for carrier in tuple(_carriers.values()):
        if not attributes.keys().isdisjoint(carrier.attributes):
            return _given(attributes)
    return nullcontext()


@contextmanager
def _given(attributes: Mapping[str, Any]) -> Iterator[None]:
    with ExitStack() as stack:
        for carrier in tuple(_carriers.values()):
            values = {name: attributes[name] for name in carrier.attributes if name in attributes}
            usable = {
                name: value
                for name, value in values.items()
                if isinstance(value, str) and len(value) <= MAX_CARRIED
            }
            if usable:
                stack.enter_context(_contained(carrier, usable))
        yield


@contextmanager
def _contained(carrier: Carrier, values: Mapping[str, str]) -> Iterator[None]:
    """Enter the context of a carrier, and leave it, whatever it raises and the handler does."""
    manager: AbstractContextManager[Any] | None = None
    try:
        with _watched(carrier):
            manager = carrier.give(values)
            manager.__enter__()
    except BaseException as exc:
        manager = None
        _contain(carrier, exc)
    try:
        yield
    finally:
        try:
            if manager is not None:
                with _watched(carrier):
                    manager.__exit__(None, None, None)
        except BaseException as exc:
            _contain(carrier, exc)


@contextmanager
def _watched(carrier: Carrier) -> Iterator[None]:
    """Let what a carrier does to the database harm no transaction; log what it would have."""
    if not carrier.uses_database:
        yield
        return
    with unharmed(settings=True) as wrong:
        yield
    _tell(carrier, wrong)


def _take(carrier: Carrier) -> Mapping[str, str]:
    with unharmed(opens=False) as wrong:
        values = carrier.take()
    _tell(carrier, wrong)
    return values


def _tell(carrier: Carrier, wrong: Iterable[str]) -> None:
    for problem in wrong:
        if _is_news(carrier, problem):
            logger.error("Carrier %r has %s; that is put right.", carrier.name, problem)


def _problem(carrier: Carrier, attribute: str, value: object) -> str | None:
    if attribute not in carrier.attributes:
        return "is none of its attributes"
    if not isinstance(value, str):
        return f"is a {type(value).__name__}, not a string"
    return flaw(value, MAX_CARRIED)


def _contain(carrier: Carrier, exc: BaseException) -> None:
    if is_interrupt(exc):
        raise exc
    if _is_news(carrier, problem := describe(exc)):
        text = "Carrier %r has failed, and the message goes its way without: %s"
        log(logger, logging.ERROR, text, carrier.name, problem, exc=exc)


def _leave_out(carrier: Carrier, problem: str) -> None:
    if _is_news(carrier, problem):
        logger.warning("Carrier %r: %s; it does not go along.", carrier.name, problem)


def _is_news(carrier: Carrier, problem: str) -> bool:
    """Tell whether a problem was not logged before; else it would be for each message."""
    if (carrier.name, problem) in _told or len(_told) >= MAX_TOLD:
        return False
    _told.add((carrier.name, problem))
    return True

"""Handlers: how they are registered, and what is refused."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from django.test import override_settings

import inbox
from inbox.handlers.registry import Handler, HandlerRegistry, handler, handlers
from outbox.exceptions import ConfigurationError, UnknownEventType
from outbox.message.envelope import Envelope
from tests.kit.support import Counted, Registered
from tests.testapp.handlers import RECORD

pytestmark = pytest.mark.sqlite


def do(event: object, message: Envelope) -> None:
    """A handler that does nothing."""


def made(**options: Any) -> Handler:
    return Handler(**{"name": "n", "pattern": "a.b", "function": do, **options})


@pytest.fixture
def registry() -> HandlerRegistry:
    return HandlerRegistry()


@pytest.fixture
def undo() -> Iterator[None]:
    before = set(handlers)
    yield
    for found in set(handlers) - before:
        handlers.remove(found.name)


def test_the_package_exports_what_it_says() -> None:
    """Every name in `__all__` is there."""
    assert all(hasattr(inbox, name) for name in inbox.__all__)


def test_handlers_modules_are_discovered() -> None:
    """`<app>/handlers.py` of every installed app is imported at start."""
    assert RECORD in {found.name for found in handlers}


def test_a_handler_of_a_class_takes_its_type_and_version(
    undo: None, registered: Registered
) -> None:
    """The class says the event type and the version that the handler understands."""

    @dataclass
    class Thing:
        n: int

    registered("tests.thing", Thing, version=3)

    @handler(Thing, name="things")
    def handle(event: Thing, message: Envelope) -> None: ...

    [found] = [each for each in handlers if each.name == "things"]
    assert (found.pattern, found.version, found.function) == ("tests.thing", 3, handle)


def test_a_handler_of_a_type_takes_every_version(undo: None) -> None:
    """A name or pattern says nothing about versions, unless one is given."""
    handler("tests.thing", name="all")(do)
    handler("tests.#", name="one", version=2)(do)

    versions = {found.name: found.version for found in handlers}
    assert (versions["all"], versions["one"]) == (None, 2)


def test_the_default_name_says_app_and_function(undo: None) -> None:
    """The module's `.handlers` is left out."""

    def record_thing(event: object, message: Envelope) -> None: ...

    record_thing.__module__ = "project.billing.handlers"
    handler("tests.thing")(record_thing)

    assert "project.billing.record_thing" in {found.name for found in handlers}


def test_a_class_that_is_no_event_is_refused(undo: None) -> None:
    """The error says how to make it one."""
    with pytest.raises(UnknownEventType, match=r"@outbox\.event"):
        handler(str)(do)


def test_the_default_group_is_the_services_name(registry: HandlerRegistry) -> None:
    """It follows the settings, also when they change."""
    found = registry.add(made())

    with override_settings(OUTBOX={"SOURCE": "/shop"}, INBOX={}):
        assert found.group == "shop"
    with override_settings(INBOX={"GROUP": "till"}):
        assert found.group == "till"
        assert registry.groups() == {"till": [found]}
    with override_settings(INBOX={}):
        assert registry.add(made(declared_group="own")).group == "own"


def test_a_taken_name_is_refused(registry: HandlerRegistry) -> None:
    """Two functions with one name would take each other's receipts for theirs."""
    registry.add(made())

    with pytest.raises(ConfigurationError, match=r"Two handlers are named 'n'.*another") as caught:
        registry.add(made(function=print))

    assert "test_registry.do" in str(caught.value)


def test_a_reloaded_module_registers_again(registry: HandlerRegistry) -> None:
    """The same definition replaces itself."""
    registry.add(made())
    registry.add(made(pattern="c"))

    assert [found.pattern for found in registry] == ["c"]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"name": ""}, "1 to 100 printable characters"),
        ({"name": "x" * 101}, "1 to 100 printable characters"),
        ({"name": "a\x00b"}, "1 to 100 printable characters"),
        ({"pattern": "a..b"}, "malformed pattern"),
        ({"pattern": "a b"}, "malformed pattern"),
        ({"declared_group": "a b"}, "malformed group"),
        ({"declared_group": "amq.x"}, "malformed group"),
        ({"declared_group": "x" * 101}, "malformed group"),
    ],
)
def test_malformed_handlers_are_refused(
    options: dict[str, Any], error: str, registry: HandlerRegistry
) -> None:
    """What the database or the broker could not take is refused at start."""
    with pytest.raises(ConfigurationError, match=error):
        registry.add(made(**options))


class AsyncCallable:
    async def __call__(self, event: object, message: Envelope) -> None: ...


async def later(event: object, message: Envelope) -> None: ...


def generate(event: object, message: Envelope) -> Iterator[int]:
    yield 1


@pytest.mark.parametrize("function", [later, generate, AsyncCallable()])
def test_a_function_that_would_not_run_is_refused(function: Any, registry: HandlerRegistry) -> None:
    """Calling it does nothing, and the message would count as handled."""
    with pytest.raises(ConfigurationError, match="plain function"):
        registry.add(made(function=function))


def test_handlers_are_found_in_the_order_of_registration(registry: HandlerRegistry) -> None:
    """By type, and by group where one is asked for."""
    a = registry.add(made(name="a", pattern="#", declared_group="x"))
    b = registry.add(made(name="b", pattern="a.*", declared_group="y"))
    registry.add(made(name="c", pattern="c"))

    assert registry.for_type("a.b") == [a, b]
    assert registry.for_type("a.b", "y") == [b]


class Holder:
    def method(self, event: object, message: Envelope) -> None: ...


@pytest.mark.parametrize(
    "function",
    [lambda: None, lambda event: None, lambda event, message, more: None, Holder.method],
    ids=["nothing", "one", "three", "a method of a class"],
)
def test_a_function_that_cannot_be_called_so_is_refused(
    function: Any, registry: HandlerRegistry
) -> None:
    """At the start, with what it is to be; not with the first message."""
    with pytest.raises(ConfigurationError, match=r"Handler n: .* def function\(event, message\)"):
        registry.add(made(function=function))


@pytest.mark.parametrize(
    "function",
    [lambda *arguments: None, lambda event, message, more=1: None, Holder().method, print],
    ids=["any", "a default", "a bound method", "in C"],
)
def test_a_function_that_can_be_called_so_is_taken(
    function: Any, registry: HandlerRegistry
) -> None:
    """Whatever else it could take."""
    assert registry.add(made(function=function))


def test_the_decorator_needs_an_event() -> None:
    """Without one the function would be taken for it, and nothing registered."""
    with pytest.raises(ConfigurationError, match="needs the event"):
        handler(do)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrapper", [lambda function: function, classmethod])
def test_a_method_is_refused(wrapper: Any, undo: None) -> None:
    """Nobody could call it: the event would be its self."""
    with pytest.raises(ConfigurationError, match=r"Billing\.invoice is a method.*staticmethod"):

        class Billing:
            @handler("a.b", name="method")
            @wrapper
            def invoice(self, event: object) -> None: ...

    assert handlers.get("method") is None


def test_a_static_method_and_one_of_an_object_are_handlers(undo: None) -> None:
    """Both can be called with the event and its message."""

    class Billing:
        @staticmethod
        @handler("a.b", name="static")
        def invoice(event: object, message: Envelope) -> None: ...

        def remind(self, event: object, message: Envelope) -> None: ...

    handler("a.b", name="bound")(Billing().remind)

    assert {"static", "bound"} <= {found.name for found in handlers}


def test_a_sequence_that_no_event_has_is_refused() -> None:
    """Each message would be dead of it; a function of the event may be anything."""
    match = "sequence='numbr' is no attribute of Counted; its fields are key, number"
    with pytest.raises(ConfigurationError, match=match):
        inbox.handler(Counted, name="slip", sequence="numbr")(lambda event, message: None)

    assert handlers.get("slip") is None

"""The event types that a service knows."""

import importlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pydantic
import pytest

import outbox
from outbox.exceptions import ConfigurationError, InvalidEvent, UnknownEventType
from outbox.message.event_types import EventType, Registry, is_type_name
from outbox.message.event_types import registry as global_registry


@dataclass(frozen=True)
class First:
    a: int


@dataclass(frozen=True)
class Second:
    a: int


@pytest.fixture
def registry() -> Registry:
    return Registry()


MODULE = """
from dataclasses import dataclass
import outbox

@outbox.event("tests.reloaded", key={key})
@dataclass(frozen=True)
class Reloaded:
    a: int

PLAIN = outbox.register("tests.reloaded_plain", key=lambda payload: payload["a"])
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A module of events, to be edited and reloaded."""
    (tmp_path / "reloaded_events.py").write_text(MODULE.format(key="'a'"))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield importlib.import_module("reloaded_events")
    for event_type in list(global_registry):
        if event_type.name.startswith("tests.reloaded"):
            global_registry.remove(event_type)
    del sys.modules["reloaded_events"]


class TestDeclaring:
    """@event and register()."""

    @pytest.mark.parametrize("base", ["dataclass", "struct", "pydantic"])
    def test_kinds_of_class(self, registry: Registry, base: str):
        """Dataclasses, Structs and pydantic models are payloads."""
        schema: Any = {
            "dataclass": First,
            "struct": msgspec.defstruct("S", [("a", int)]),
            "pydantic": pydantic.create_model("M", a=(int, ...)),
        }[base]
        event_type = registry.add(EventType(name="a.b", schema=schema))

        assert registry.of_class(schema) is registry.named("a.b") is event_type

    def test_decorator_returns_the_class(self, module: ModuleType):
        """The decorated class is the class itself, and known by class and by name."""
        found = global_registry.of_class(module.Reloaded)

        assert found is global_registry.named("tests.reloaded")
        assert (found.version, found.key, found.schema) == (1, "a", module.Reloaded)

    @pytest.mark.parametrize("what", [object, int, dict[str, int], lambda: None, First(1)])
    def test_what_is_no_payload(self, what: Any):
        """A class without fields to check is refused, with the usual cause."""
        with pytest.raises(ConfigurationError, match="above @dataclass"):
            EventType(name="a.b", schema=what)

    @pytest.mark.parametrize(
        "name", ["", ".", ".a", "a.", "a..b", "a b", "a/b", "a.*", "a.#", "ä", "a\n", "x" * 256, 7]
    )
    def test_malformed_names(self, name: Any):
        """Names and topics are words joined by dots: they become routing keys."""
        with pytest.raises(ConfigurationError, match="Malformed event type"):
            EventType(name=name)
        assert not is_type_name(name)
        if name:
            with pytest.raises(ConfigurationError, match="Malformed event topic"):
                EventType(name="a", topic=name)

    @pytest.mark.parametrize("name", ["a", "shop.order.placed", "A-b_1.2", "x" * 255])
    def test_names(self, name: str):
        """These are fine."""
        assert EventType(name=name, topic=name).name == name
        assert is_type_name(name)

    @pytest.mark.parametrize("version", [0, -1, "1", 1.0, True, None, 10**9])
    def test_versions(self, version: Any):
        """Versions are whole numbers from 1 on that fit their column."""
        with pytest.raises(ConfigurationError, match="version must be"):
            EventType(name="a", version=version)

    def test_text(self):
        """Errors call an event type by name and version."""
        assert str(EventType(name="a.b", version=3)) == "a.b v3"


class TestConflicts:
    """A name and version mean one thing, and a class is one event."""

    def test_two_classes(self, registry: Registry):
        """A name that is taken is refused, and both classes named; the first one stays."""
        registry.add(EventType(name="a", schema=First))
        with pytest.raises(ConfigurationError, match=r"a v1 is registered twice.*First.*Second"):
            registry.add(EventType(name="a", schema=Second))

        assert registry.named("a").schema is First
        with pytest.raises(UnknownEventType):
            registry.of_class(Second)

    @pytest.mark.parametrize("order", [(None, First), (First, None)])
    def test_class_and_none(self, registry: Registry, order: tuple[type | None, type | None]):
        """So is one that is taken without a class, or with one."""
        registry.add(EventType(name="a", schema=order[0]))
        with pytest.raises(ConfigurationError, match="registered twice"):
            registry.add(EventType(name="a", schema=order[1]))

    def test_different_options(self, registry: Registry):
        """And one without a class, with other options."""
        registry.add(EventType(name="a", key="id"))
        with pytest.raises(ConfigurationError, match="registered twice"):
            registry.add(EventType(name="a", key="name"))

    def test_versions(self, registry: Registry):
        """Another version is another event type."""
        one = registry.add(EventType(name="a", schema=First))
        two = registry.add(EventType(name="a", schema=Second, version=2))

        assert (registry.find("a", 1), registry.find("a", 2)) == (one, two)
        assert set(registry) == {one, two}

    @pytest.mark.parametrize("other", [{"name": "b"}, {"name": "a", "version": 2}])
    def test_one_class_twice(self, registry: Registry, other: dict[str, Any]):
        """A class for two events could not say which one it is; nothing changes."""
        first = registry.add(EventType(name="a", schema=First))
        with pytest.raises(ConfigurationError, match="make a class for each"):
            registry.add(EventType(schema=First, **other))

        assert registry.of_class(First) is first
        assert list(registry) == [first]

    def test_reload(self, module: ModuleType, tmp_path: Path):
        """A module may be edited and loaded again; what it says last counts."""
        old = module.Reloaded
        (tmp_path / "reloaded_events.py").write_text(MODULE.format(key="None") + "#\n")
        importlib.invalidate_caches()
        importlib.reload(module)

        assert module.Reloaded is not old
        assert global_registry.named("tests.reloaded").schema is module.Reloaded
        assert global_registry.of_class(module.Reloaded).key is None


class TestLookingUp:
    """By class, and by name and version."""

    def test_newest(self, registry: Registry):
        """Without a version the newest is meant, in whatever order they were declared."""
        for version in (2, 10, 9):
            registry.add(EventType(name="a", version=version))

        assert registry.named("a").version == 10
        assert registry.named("a", 9).version == 9

    def test_unknown(self, registry: Registry):
        """What is unknown or malformed is told apart."""
        registry.add(EventType(name="a", version=2))
        registry.add(EventType(name="a", version=11))
        with pytest.raises(UnknownEventType, match=r"no version 3\. Known versions: 2, 11\."):
            registry.named("a", 3)
        with pytest.raises(UnknownEventType, match="Unknown event type 'b'"):
            registry.named("b")
        with pytest.raises(InvalidEvent, match="Malformed"):
            registry.named("b.*")
        with pytest.raises(UnknownEventType, match=r"test_event_types\.First is not an event"):
            registry.of_class(First)
        assert registry.find("b", 1) is registry.find("a", 1) is None
        assert (registry.knows("a"), registry.knows("b")) == (True, False)

    def test_remove(self, registry: Registry):
        """What is removed is unknown, and can be declared anew."""
        event_type = registry.add(EventType(name="a", schema=First))
        registry.remove(event_type)

        assert not registry.knows("a")
        assert list(registry) == []
        with pytest.raises(UnknownEventType):
            registry.named("a")
        registry.add(EventType(name="a", schema=Second))


def test_autodiscovery():
    """Django's start imports <app>/events.py of every app."""
    assert "tests.testapp.events" in sys.modules
    assert any(each.name.startswith("shop.") for each in global_registry)


def test_register_returns_the_event_type(registered: Any):
    """register() says what it has made."""
    found = outbox.register("tests.registered", version=2, key="k", subject="s", topic="t")
    registered.added.append(found)

    assert found == EventType(
        name="tests.registered", version=2, key="k", subject="s", topic="t", schema=None
    )


@dataclass
class WithFields:
    number: int

    @property
    def text(self) -> str:
        return str(self.number)


class StructWithFields(msgspec.Struct):
    number: int


@pytest.mark.parametrize("option", ["key", "subject"])
@pytest.mark.parametrize("schema", [WithFields, StructWithFields])
def test_an_attribute_that_no_payload_has(option: str, schema: type):
    """A misspelt key is an error of the declaration, which names the fields."""
    with pytest.raises(outbox.ConfigurationError, match=rf"{option}='nope' .* fields are number"):
        outbox.EventType(name="a.b", schema=schema, **{option: "nope"})

    assert outbox.EventType(name="a.b", schema=schema, **{option: "number"})


def test_an_attribute_that_is_no_field():
    """A property serves as well."""
    assert outbox.EventType(name="a.b", schema=WithFields, key="text")

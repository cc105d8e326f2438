"""Errors about data say where and what, and quote none of it."""

import dataclasses
import traceback
from enum import Enum
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outbox.exceptions import InvalidEvent, UndecodableMessage
from outbox.message import codec
from outbox.message.envelope import Envelope
from outbox.message.event_types import EventType

SECRET = "hunter2@example.com"


class Colour(Enum):
    RED = "red"


def _picky(value: object) -> None:
    if value == SECRET:
        raise ValueError(f"{value} is not for us")
    if value == SECRET * 2:
        raise KeyError(value)


@dataclasses.dataclass
class AsDataclass:
    number: int = 0
    colour: Colour = Colour.RED
    word: Literal["a", "b"] = "a"
    uid: UUID | None = None
    by_number: dict[int, int] = dataclasses.field(default_factory=dict)
    by_name: dict[str, int] = dataclasses.field(default_factory=dict)
    inner: "list[AsDataclass]" = dataclasses.field(default_factory=list)
    own: str = ""

    def __post_init__(self) -> None:
        _picky(self.own)


class One(msgspec.Struct, tag="one"):
    pass


class Two(msgspec.Struct, tag="two"):
    pass


class AsStruct(msgspec.Struct, forbid_unknown_fields=True):
    number: int = 0
    either: One | Two | None = None


class Left(pydantic.BaseModel):
    kind: Literal["left"] = "left"


class Right(pydantic.BaseModel):
    kind: Literal["right"] = "right"


class AsModel(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    number: int = 0
    colour: Colour = Colour.RED
    either: Annotated[Left | Right, pydantic.Field(discriminator="kind")] | None = None
    by_number: dict[int, int] = {}
    by_name: dict[str, int] = {}
    inner: "list[AsModel]" = []
    own: str = ""

    @pydantic.field_validator("own")
    @classmethod
    def check(cls, value: str) -> str:
        _picky(value)
        return value


class Serialized(pydantic.BaseModel):
    name: str

    @pydantic.field_serializer("name")
    def refuse(self, value: str) -> str:
        raise ValueError(f"{value} is not for you")


CASES: list[tuple[type, dict[str, Any], str]] = [
    (AsDataclass, {"number": SECRET}, "Expected `int`, got `str` at $.number"),
    (AsDataclass, {"colour": SECRET}, "Invalid enum value at $.colour"),
    (AsDataclass, {"word": SECRET}, "Invalid enum value at $.word"),
    (AsDataclass, {"uid": SECRET}, "Invalid UUID at $.uid"),
    (AsDataclass, {"by_number": {SECRET: 1}}, "got `str` at a key of $.by_number"),
    (AsDataclass, {"by_name": {SECRET: "x"}}, "got `str` at $.by_name[...]"),
    (AsDataclass, {"inner": [{}, {"number": SECRET}]}, "got `str` at $.inner[1].number"),
    (AsDataclass, {"inner": [{"own": SECRET}]}, "its class raised ValueError at $.inner[0]"),
    (AsDataclass, {"own": SECRET * 2}, "its class raised KeyError"),
    (AsStruct, {"either": {"type": SECRET}}, "Invalid value at $.either.type"),
    (AsStruct, {SECRET: 1}, "Object contains unknown field"),
    (AsModel, {"number": SECRET}, "int_parsing at $.number"),
    (AsModel, {"colour": SECRET}, "enum at $.colour"),
    (AsModel, {"either": {"kind": SECRET}}, "union_tag_invalid at $.either"),
    (AsModel, {"by_number": {SECRET: 1}}, "int_parsing at $.by_number[...][...]"),
    (AsModel, {"by_name": {SECRET: "x"}}, "int_parsing at $.by_name[...]"),
    (AsModel, {"inner": [{}, {"number": SECRET}]}, "int_parsing at $.inner[1].number"),
    (AsModel, {SECRET: 1}, "extra_forbidden at $[...]"),
    (AsModel, {"own": SECRET}, "value_error at $.own"),
    (AsModel, {"own": SECRET * 2}, "its class raised KeyError"),
    (AsModel, {"inner": [{"number": SECRET}] * 7}, "int_parsing at $.inner[4].number; and 2 more"),
]


def undecodable(body: bytes, schema: type | None) -> UndecodableMessage:
    event_type = schema and EventType(name="tests.problem", schema=schema)
    with pytest.raises(UndecodableMessage) as caught:
        codec.decode(Envelope("1", "/s", "tests.problem", body), event_type or None)
    return caught.value


@pytest.mark.parametrize(("schema", "payload", "problem"), CASES, ids=lambda each: str(each)[:40])
def test_what_does_not_fit_is_told_without_its_value(
    schema: type, payload: dict[str, Any], problem: str
) -> None:
    """Which event, where in it, and what kind of problem."""
    error = undecodable(msgspec.json.encode(payload), schema)

    assert str(error).startswith("data of tests.problem v1: ")
    assert str(error).endswith(problem)


@pytest.mark.parametrize(
    ("schema", "payload"),
    [case[:2] for case in CASES if "its class" not in case[2]],
    ids=lambda each: str(each)[:40],
)
def test_its_traceback_quotes_nothing_either(schema: type, payload: dict[str, Any]) -> None:
    """An error of msgspec or pydantic is not shown as the cause."""
    error = undecodable(msgspec.json.encode(payload), schema)

    assert SECRET not in "".join(traceback.format_exception(error))


def test_what_a_class_has_raised_is_the_cause() -> None:
    """For whoever mends the class: its traceback is that of the error."""
    error = undecodable(msgspec.json.encode({"own": SECRET}), AsDataclass)

    assert isinstance(error.__cause__, ValueError)
    assert error.__cause__.__traceback__ is not None


@pytest.mark.parametrize("schema", [None, AsDataclass, AsModel])
@pytest.mark.parametrize("body", [b'{"own":"%s', b'{"own":%s}', b'{"own":"%s\xff"}', b'["%s",]'])
def test_broken_json_is_told_without_its_values(schema: type | None, body: bytes) -> None:
    """With a class and without."""
    error = undecodable(body % SECRET.encode(), schema)

    assert "hunter2" not in "".join(traceback.format_exception(error))


@given(st.text(max_size=300))
def test_a_key_of_any_length_is_not_quoted_at_length(key: str) -> None:
    """The text of an error is short whatever was sent."""
    error = undecodable(
        msgspec.json.encode({key: 1, "number": "x", "by_name": {key: "x"}}), AsModel
    )

    assert len(str(error)) < 300


def refused(payload: object, schema: type) -> InvalidEvent:
    event_type = EventType(name="tests.problem", schema=schema)
    with pytest.raises(InvalidEvent) as caught:
        codec.encode(codec.build(payload, event_type), event_type)
    return caught.value


@pytest.mark.parametrize(
    ("schema", "payload", "problem"),
    [
        (AsDataclass, AsDataclass(number=SECRET), "got `str` at $.number"),  # type: ignore[arg-type]
        (AsDataclass, AsDataclass(colour=SECRET), "Invalid enum value at $.colour"),  # type: ignore[arg-type]
        (AsDataclass, {"colour": SECRET}, "Invalid enum value at $.colour"),
        (AsModel, {"number": SECRET}, "int_parsing at $.number"),
        (AsModel, {SECRET: 1}, "extra_forbidden at $[...]"),
        (AsModel, AsModel.model_construct(number=SECRET), "not of its field's type at $.number"),
        (AsDataclass, {"own": SECRET}, "its class raised ValueError"),
        (Serialized, Serialized(name=SECRET), "its class raised ValueError"),
    ],
    ids=lambda each: str(each)[:40],
)
def test_an_event_that_is_refused_is_not_quoted(schema: type, payload: Any, problem: str) -> None:
    """The same at emit."""
    error = refused(payload, schema)

    assert problem in str(error)
    assert SECRET not in str(error)
    if "its class" not in problem:
        assert SECRET not in "".join(traceback.format_exception(error))


def test_a_missing_field_is_named() -> None:
    """What Python says of the arguments of a class names fields, not values."""

    @dataclasses.dataclass
    class Needy:
        needed: int
        given: str

    assert "'needed'" in str(refused({"given": SECRET}, Needy))

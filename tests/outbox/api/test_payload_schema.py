"""What a payload looks like is told from its class."""

from dataclasses import dataclass
from typing import Literal

import msgspec
from pydantic import BaseModel

from outbox.api.payload_schema import payload_schema


@dataclass
class Line:
    name: str


@dataclass
class Order:
    lines: list[Line]
    kind: Literal["x", "y"]
    note: str | None = None
    parent: "Order | None" = None
    ids: int | str = 0


class Small(msgspec.Struct):
    count: int


class Model(BaseModel):
    line: Small | None = None
    inner: "list[Model]" = []

    model_config = {"arbitrary_types_allowed": True}


class Page(BaseModel):
    size: int
    inner: "list[Page]" = []


class Stranger:
    pass


@dataclass
class Odd:
    stranger: Stranger


def test_a_dataclass() -> None:
    """What it refers to is in place, null is `nullable`, and what contains itself is anything."""
    line = {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}
    assert payload_schema(Order, closed=True) == {
        "type": "object",
        "required": ["lines", "kind"],
        "additionalProperties": False,
        "properties": {
            "lines": {"type": "array", "items": line},
            "kind": {"enum": ["x", "y"]},
            "note": {"type": "string", "nullable": True, "default": None},
            "parent": {"nullable": True, "default": None},
            "ids": {"anyOf": [{"type": "integer"}, {"type": "string"}], "default": 0},
        },
    }


def test_other_classes() -> None:
    assert payload_schema(Small)["properties"] == {"count": {"type": "integer"}}
    assert payload_schema(Page)["properties"] == {
        "size": {"type": "integer"},
        "inner": {"type": "array", "items": {}, "default": []},
    }


def test_what_cannot_be_told_is_anything() -> None:
    """No class, and fields of classes that nobody knows."""
    assert payload_schema(None, closed=True) == {}
    assert payload_schema(Odd) == {}
    assert payload_schema(Model) == {}

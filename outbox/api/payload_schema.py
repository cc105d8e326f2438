"""What the payload of an event looks like in OpenAPI 3.0, from its class."""

from collections.abc import Mapping
from typing import Any

import msgspec

_KEPT = (
    *("type", "format", "enum", "default", "description", "pattern", "required"),
    *("minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "uniqueItems"),
)
_ANYTHING: dict[str, Any] = {}


def payload_schema(cls: type | None, *, closed: bool = False) -> dict[str, Any]:
    """Return the schema of a payload class: a dataclass, a msgspec.Struct or a pydantic model.

    `closed` says that it takes no names but those of the class. Without a class, or for one that
    cannot be told in JSON Schema, it is anything.
    """
    if cls is None:
        return dict(_ANYTHING)
    try:
        schema, definitions = _json_schema(cls)
    except (TypeError, ValueError, RuntimeError):  # a field of a class that nobody knows
        return dict(_ANYTHING)
    found = _converted(schema, definitions, ())
    return found | {"additionalProperties": False} if closed and found else found


def _json_schema(cls: type) -> tuple[dict[str, Any], dict[str, Any]]:
    if hasattr(cls, "__pydantic_validator__") and hasattr(cls, "model_json_schema"):
        schema = cls.model_json_schema()
        return schema, schema.get("$defs", {})
    [schema], definitions = msgspec.json.schema_components([cls], ref_template="#/$defs/{name}")
    return schema, definitions


def _converted(
    schema: Any, definitions: Mapping[str, Any], inside: tuple[str, ...]
) -> dict[str, Any]:
    """Return a schema as OpenAPI 3.0 has it, with what it refers to in place."""
    if not isinstance(schema, dict):
        return dict(_ANYTHING)
    if reference := schema.get("$ref"):
        name = str(reference).rpartition("/")[2]
        if name in inside:  # it contains itself
            return dict(_ANYTHING)
        return _converted(definitions.get(name), definitions, (*inside, name))
    found = {name: schema[name] for name in _KEPT if name in schema}
    if "const" in schema:
        found["enum"] = [schema["const"]]
    for name in ("anyOf", "oneOf"):
        if name in schema:
            found |= _one_of(schema[name], definitions, inside)
    if "allOf" in schema and len(schema["allOf"]) == 1:
        found |= _converted(schema["allOf"][0], definitions, inside)
    if "properties" in schema:
        found["properties"] = {
            name: _converted(each, definitions, inside)
            for name, each in schema["properties"].items()
        }
    if found.get("type") == "array":
        found["items"] = _converted(schema.get("items"), definitions, inside)
    if isinstance(schema.get("additionalProperties"), dict):
        found["additionalProperties"] = _converted(
            schema["additionalProperties"], definitions, inside
        )
    return found


def _one_of(
    schemas: list[Any], definitions: Mapping[str, Any], inside: tuple[str, ...]
) -> dict[str, Any]:
    """Return what is one of several schemas; null is no type in OpenAPI 3.0."""
    real = [each for each in schemas if each != {"type": "null"}]
    each = [_converted(schema, definitions, inside) for schema in real]
    found = each[0] if len(each) == 1 else {"anyOf": each}
    return found | {"nullable": True} if len(real) < len(schemas) else found

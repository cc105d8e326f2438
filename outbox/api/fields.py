"""How values are written: ids and long numbers as text, which JavaScript would round."""

from datetime import UTC, datetime
from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

Shape = serializers.Serializer[Any]
"""What an object of the API has."""


class Id(serializers.CharField):
    """An id or a number of 64 bits, as text."""

    def __init__(self, **options: Any) -> None:
        super().__init__(read_only=True, **options)


@extend_schema_field(OpenApiTypes.DATETIME)
class Instant(serializers.Field):  # type: ignore[type-arg]
    """A point in time, in UTC, whatever the project's time zone is."""

    def __init__(self, **options: Any) -> None:
        super().__init__(read_only=True, **options)

    def to_representation(self, value: datetime) -> str:
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


@extend_schema_field(OpenApiTypes.ANY)
class Anything(serializers.Field):  # type: ignore[type-arg]
    """Any JSON value."""

    def __init__(self, **options: Any) -> None:
        super().__init__(read_only=True, **options)

    def to_representation(self, value: Any) -> Any:
        return value


def text(**options: Any) -> serializers.CharField:
    """Return a field for a text that is only read."""
    return serializers.CharField(read_only=True, **options)


def number(**options: Any) -> serializers.IntegerField:
    """Return a field for a small number that is only read."""
    return serializers.IntegerField(read_only=True, **options)

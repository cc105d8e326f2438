"""How views that accept requests describe themselves in OpenAPI: from the classes they declare."""

from typing import Any, cast

from drf_spectacular.openapi import AutoSchema
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse

from outbox.api.headers import KEY, LONGEST_KEY
from outbox.api.payload_schema import payload_schema
from outbox.api.problems import MEDIA_TYPE, Kind, described_problem
from outbox.message.event_types import EventType, registry
from outbox.states import PENDING, Outcome

_TEXT = {"type": "string"}
_INSTANT = {"type": "string", "format": "date-time"}
_SHARE = {"type": "number", "minimum": 0, "maximum": 1, "nullable": True}
_COMMON = (Kind.INVALID, Kind.UNAUTHENTICATED, Kind.FORBIDDEN, Kind.THROTTLED)
_ONE = (*_COMMON, Kind.NOT_FOUND)
_KINDS = {
    "create": (*_COMMON, Kind.TOO_LARGE, Kind.MEDIA_TYPE, Kind.KEY_USED),
    "retrieve": _ONE,
    "destroy": (*_ONE, Kind.CONFLICT),
}


class AcceptedSchema(AutoSchema):
    """Describes an AcceptedView."""

    view: Any

    def get_request_serializer(self) -> Any:
        if self.view.action != "create":
            return None
        if self.view.serializer_class is not None:
            return self.view.serializer_class
        body = payload_schema(self.view.event_type().schema, closed=True)
        return {"application/json": body}

    def get_response_serializers(self) -> Any:
        answer = OpenApiResponse(standing_schema(self.view.event_type(), self.view.replies))
        responses: dict[Any, Any] = {(200, "application/json"): answer}
        if self.view.action == "create":
            responses[202, "application/json"] = answer
        if self.view.action == "retrieve":
            responses[304] = OpenApiResponse(description="What If-None-Match names is still so.")
        for kind in reversed(_KINDS[self.view.action]):
            responses[kind.status, MEDIA_TYPE] = described_problem(kind)
        return responses

    def get_override_parameters(self) -> list[Any]:
        create, retrieve = self.view.action == "create", self.view.action == "retrieve"
        found = [] if create else [OpenApiParameter("id", OpenApiTypes.UUID, "path")]
        if create:
            found.append(self._key())
        if retrieve:
            found.append(_header("If-None-Match", "the ETag of an answer that was seen"))
        if (create or retrieve) and self.view.max_wait:
            most = self.view.max_wait
            text = f"`wait=5` waits for the result so many seconds, {most} at most (RFC 7240)"
            found.append(_header("Prefer", text))
        return [*found, *self._answered(create=create, retrieve=retrieve)]

    def _key(self) -> OpenApiParameter:
        return OpenApiParameter(
            KEY,
            {"type": "string", "minLength": 1, "maxLength": LONGEST_KEY},
            "header",
            required=self.view.key_required,
            description="with the same key and body it is the same request; kept as long as that",
        )

    @staticmethod
    def _answered(*, create: bool, retrieve: bool) -> list[OpenApiParameter]:
        statuses: list[str | int] = [200, 202] if create else [200]
        cached: list[str | int] = [*statuses, 304] if retrieve else statuses
        found = [_header("ETag", "changes with what is told", cached)]
        if create:
            found.append(_header("Location", "where to ask how it stands", statuses))
        if create or retrieve:
            text = "seconds after which to ask again, by what others took; while it is pending"
            pending: list[str | int] = [202] if create else [200]
            found.append(_header("Retry-After", text, pending))
            found.append(_header("Preference-Applied", "`wait` as far as it counted", statuses))
        return found

    def _is_list_view(self, serializer: Any = None) -> bool:
        return False


def standing_schema(event_type: EventType, replies: int) -> dict[str, Any]:
    """Describe what is told of a request of a type that wants so many replies."""
    reply = _one_of([_reply(registry.of_class(each)) for each in event_type.replies])
    several = {"type": "array", "items": reply, "description": "those that have come"}
    result = reply | {"nullable": True, "description": "null as long as there is none"}
    return _object(
        id={"type": "string", "format": "uuid"},
        type=_TEXT,
        state={"type": "string", "enum": [PENDING, *Outcome.values]},
        asked_at=_INSTANT,
        deadline=_INSTANT,
        settled_at=_INSTANT | {"nullable": True},
        progress=_progress(),
        result=result if replies == 1 else several,
        error=_object(type=_TEXT, title=_TEXT, detail=_TEXT)
        | {"nullable": True, "description": "a problem, if it has ended without a result"},
    )


def _reply(event_type: EventType) -> dict[str, Any]:
    data = payload_schema(event_type.schema) | {"nullable": True}
    return _object(
        type={"type": "string", "enum": [event_type.name]},
        version={"type": "integer"},
        received_at=_INSTANT,
        data=data,
    )


def _progress() -> dict[str, Any]:
    text = "how far it has come, the newest that whoever answers has said; null if it has not"
    return _object(done=_SHARE, text=_TEXT, at=_INSTANT) | {"nullable": True, "description": text}


def _one_of(schemas: list[dict[str, Any]]) -> dict[str, Any]:
    return schemas[0] if len(schemas) == 1 else {"oneOf": schemas}


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": [*properties]}


def _header(name: str, text: str, statuses: list[str | int] | None = None) -> OpenApiParameter:
    given = cast("Any", statuses) if statuses else False
    return OpenApiParameter(name, str, "header", description=text, response=given)

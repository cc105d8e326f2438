"""How our views describe themselves in OpenAPI: from what each method is declared to answer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from drf_spectacular.openapi import AutoSchema
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter

from outbox.api.problems import MEDIA_TYPE, Kind, described_problem

F = TypeVar("F", bound=Callable[..., Any])

CURSOR = OpenApiParameter("cursor", str, description="where to go on, from an answer")
FILTER = OpenApiParameter(
    "q", str, description="a filter, such as `type:shop.order.* state:dead age:>1h`"
)
LIMIT = OpenApiParameter(
    "limit", {"type": "integer", "minimum": 1, "maximum": 200}, description="rows of a page"
)
_COMMON = (
    Kind.INVALID,
    Kind.UNAUTHENTICATED,
    Kind.FORBIDDEN,
    Kind.NOT_FOUND,
    Kind.THROTTLED,
    Kind.TOO_MUCH,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """What a method takes and answers; a text names an attribute of the view that has the shape."""

    answer: Any
    request: Any = None
    query: Sequence[OpenApiParameter] = ()
    problems: Sequence[Kind] = ()
    conflict: bool = False
    also: str = ""
    """Another media type of the answer, a text."""


def described(**about: Any) -> Callable[[F], F]:
    """Declare what a method of a view takes and answers."""

    def decorate(method: F) -> F:
        vars(method)["described"] = Described(**about)
        return method

    return decorate


class Schema(AutoSchema):
    """Reads what `described` has declared."""

    view: Any

    @property
    def about(self) -> Described:
        found: Described = getattr(self.view, self.view.action).described
        return found

    def get_operation_id(self) -> str:
        return f"{self.view.resource.replace('-', '_')}_{self.view.action}"

    def get_tags(self) -> list[str]:
        return [self.view.resource]

    def get_request_serializer(self) -> Any:
        return self.about.request

    def get_response_serializers(self) -> Any:
        answer = self.about.answer
        shape = getattr(self.view, answer) if isinstance(answer, str) else answer
        responses: dict[Any, Any] = {(200, "application/json"): shape}
        if self.about.also:
            responses[200, self.about.also] = OpenApiTypes.STR
        kinds = (
            [*_COMMON, Kind.CONFLICT, Kind.TOO_LARGE, Kind.MEDIA_TYPE]
            if self.method in ("POST", "PUT")
            else [*_COMMON]
        )
        if self.about.conflict:
            kinds.append(Kind.CONFLICT)
        for kind in [*kinds, *self.about.problems]:
            responses[kind.status, MEDIA_TYPE] = described_problem(kind)
        return responses

    def get_override_parameters(self) -> list[Any]:
        path = [self.view.id_parameter()] if "{id}" in self.path else []
        return [*path, *self.about.query]

    def _is_list_view(self, serializer: Any = None) -> bool:
        return False  # pages have shapes of their own

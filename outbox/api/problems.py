"""Errors as problem details (RFC 9457), each with the part of our documentation that it is about.

The documentation has no address of its own yet, so that `type` is a tag URI (RFC 4151).
"""

from enum import Enum
from typing import Any

from django.core.exceptions import RequestDataTooBig
from django.db import Error as DatabaseError
from drf_spectacular.utils import OpenApiResponse
from rest_framework import exceptions, serializers, status
from rest_framework.response import Response
from rest_framework.views import exception_handler

from outbox.api.fields import Shape, number, text
from outbox.database.failures import is_canceled

MEDIA_TYPE = "application/problem+json"
DOCS = "tag:django-outbox-inbox,2026:docs/how-to/api#"


class Kind(Enum):
    """What can be wrong: the status, the heading in the documentation, and a title."""

    INVALID = 400, "invalid", "The request cannot be understood"
    KEY_MISSING = 400, "key-missing", "Idempotency-Key is missing"
    UNAUTHENTICATED = 401, "unauthenticated", "It must be known who asks"
    FORBIDDEN = 403, "forbidden", "A permission is missing"
    NOT_FOUND = 404, "not-found", "There is nothing here"
    METHOD = 405, "method", "That cannot be done here"
    CONFLICT = 409, "conflict", "It is in another state"
    GONE = 410, "gone", "It cannot be gone on from there"
    TOO_LARGE = 413, "too-large", "The body is too large"
    MEDIA_TYPE = 415, "media-type", "The body must be JSON"
    KEY_USED = 422, "key-used", "Idempotency-Key is already used"
    THROTTLED = 429, "throttled", "Too many requests"
    BROKER = 502, "broker", "The broker does not take it"
    TOO_MUCH = 503, "too-much", "It takes too long to be read"

    @property
    def status(self) -> int:
        return self.value[0]

    @property
    def uri(self) -> str:
        return DOCS + self.value[1]

    @property
    def title(self) -> str:
        return self.value[2]


_BY_STATUS = {kind.status: kind for kind in reversed(Kind)}
"""The first of each status."""


class Problem(Shape):
    """A problem, as RFC 9457 has it. `errors` has what is wrong by the name of the value."""

    type = text()
    title = text()
    status = number()
    detail = text()
    errors = serializers.DictField(child=serializers.ListField(child=text()), required=False)  # type: ignore[assignment]


class ConflictProblem(Problem):
    """A problem with the state that a row is in now; null if there is no row any more."""

    state = text(allow_null=True)


def described_problem(kind: Kind) -> Any:
    """Describe a problem in OpenAPI."""
    body = ConflictProblem if kind is Kind.CONFLICT else Problem
    return OpenApiResponse(body, description=kind.title)


class Conflict(exceptions.APIException):
    """Something cannot be done to a row in the `state` that it is in now."""

    status_code = status.HTTP_409_CONFLICT

    def __init__(self, detail: str, state: str | None = None) -> None:
        super().__init__(detail)
        self.state = state


class TooLarge(exceptions.APIException):
    """A body is larger than DATA_UPLOAD_MAX_MEMORY_SIZE."""

    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_detail = "It is larger than DATA_UPLOAD_MAX_MEMORY_SIZE allows."


class KeyMissing(exceptions.APIException):
    """A request needs an Idempotency-Key, and has none."""

    status_code = status.HTTP_400_BAD_REQUEST
    kind = Kind.KEY_MISSING


class KeyUsed(exceptions.APIException):
    """An Idempotency-Key was used before, for a request that says something else."""

    status_code = status.HTTP_422_UNPROCESSABLE_ENTITY


class Refused(exceptions.APIException):
    """A broker does not take what is published, or is away."""

    status_code = status.HTTP_502_BAD_GATEWAY


class Gone(exceptions.APIException):
    """A place in the log means nothing any more."""

    status_code = status.HTTP_410_GONE


def handle(exc: Exception, context: dict[str, Any]) -> Response | None:
    """Answer with a problem; return None for what is a mistake of ours, which Django reports."""
    if isinstance(exc, DatabaseError) and is_canceled(exc):
        return problem(Kind.TOO_MUCH, "Narrow it down: ask for less, or for a shorter time.")
    if isinstance(exc, RequestDataTooBig):
        exc = TooLarge()
    response = exception_handler(exc, context)
    if response is None:
        return None
    kind = getattr(exc, "kind", None) or _BY_STATUS.get(response.status_code, Kind.INVALID)
    more: dict[str, Any] = {}
    if isinstance(exc, exceptions.ValidationError):
        detail = "Some values cannot be used."
        more["errors"] = _errors(exc.detail)
    else:
        detail = str(getattr(exc, "detail", "") or kind.title)
    if isinstance(exc, Conflict):
        more["state"] = exc.state
    made = problem(kind, detail, **more)
    for name, value in response.items():
        if name in ("WWW-Authenticate", "Retry-After", "Allow"):
            made[name] = value
    return made


def problem(kind: Kind, detail: str, **more: Any) -> Response:
    """Return the answer that tells a problem."""
    body = {"type": kind.uri, "title": kind.title, "status": kind.status, "detail": detail, **more}
    return Response(body, status=kind.status, content_type=MEDIA_TYPE)


def _errors(detail: Any) -> dict[str, list[str]]:
    """Return what is wrong, by the name of the value; "" for the request as a whole."""
    if not isinstance(detail, dict):
        return {"": [str(each) for each in detail]}
    found = {}
    for name, said in detail.items():
        texts = said if isinstance(said, list) else [said]
        found["" if name == "non_field_errors" else str(name)] = [str(each) for each in texts]
    return found

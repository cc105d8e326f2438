"""The description of the API itself, and what is said where there is nothing."""

from functools import lru_cache
from typing import Any, ClassVar

import yaml
from django.urls import include, path
from drf_spectacular import plumbing
from drf_spectacular.drainage import reset_generator_stats
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.settings import patched_settings
from drf_spectacular.types import OpenApiTypes
from rest_framework.exceptions import NotFound
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response

from outbox.api.data import FORMS
from outbox.api.openapi import described
from outbox.api.views import Resource
from outbox.extensions.diagnosis import Level
from outbox.extensions.flow import Mood

SETTINGS: dict[str, Any] = {
    "TITLE": "django-outbox-inbox",
    "DESCRIPTION": (
        "What flows from service to service, what became of it, and what to do about it. Ids and "
        "numbers of 64 bits are text. Errors are problem details (RFC 9457)."
    ),
    "VERSION": "1",
    "SERVERS": [],
    "SCHEMA_PATH_PREFIX": "",
    "SORT_OPERATIONS": True,
    "COMPONENT_SPLIT_REQUEST": True,
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
    "ENUM_NAME_OVERRIDES": {
        "Level": [each.value for each in Level],
        "Mood": [each.value for each in Mood],
        "Form": list(FORMS),
    },
    "PREPROCESSING_HOOKS": [],
    "POSTPROCESSING_HOOKS": ["drf_spectacular.hooks.postprocess_schema_enums"],
}


@lru_cache(maxsize=4)
def document(prefix: str = "api/") -> dict[str, Any]:
    """Return the API as OpenAPI 3 describes it, as it is mounted below a prefix.

    It is made once: it takes a while, and changes settings of drf-spectacular as long.
    """
    with patched_settings(SETTINGS):
        _forget_names()
        reset_generator_stats()
        patterns = [path(prefix, include("outbox.api.urls"))]
        found: dict[str, Any] = SchemaGenerator(patterns=patterns).get_schema(public=True)  # type: ignore[no-untyped-call]
    _forget_names()
    return found


def _forget_names() -> None:
    """Have the names of enums read anew: drf-spectacular keeps those of the first settings."""
    for name in ("load_enum_name_overrides", "_load_enum_name_overrides"):
        if clear := getattr(getattr(plumbing, name, None), "cache_clear", None):
            clear()


def as_yaml(found: dict[str, Any]) -> str:
    """Return a description as text, which is the same for the same API."""
    return yaml.safe_dump(found, sort_keys=True, allow_unicode=True, width=100)


class Document(Resource):
    """The description of the API."""

    resource = "openapi"
    models = ()

    @described(answer=OpenApiTypes.OBJECT)
    def list(self, request: Request) -> Response:
        """Read this description."""
        prefix = request.path.removesuffix("openapi").lstrip("/")
        return Response(document(prefix))


class Nothing(Resource):
    """Any other address."""

    resource = "nothing"
    models = ()
    permission_classes = (AllowAny,)
    throttle_classes = ()
    schema = None  # type: ignore[assignment]
    action_permissions: ClassVar[dict[str, str]] = {}

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        raise NotFound("There is no such resource.")

    def list(self, request: Request) -> Response:
        raise NotFound

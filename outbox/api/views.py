"""The views that all resources are made of: rows in pages, one row, what it carries, actions."""

import re
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from django.db import connections, router, transaction
from django.db.models import Model, Q, QuerySet
from drf_spectacular.utils import OpenApiParameter
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import BaseThrottle
from rest_framework.viewsets import ViewSet

from outbox.admin_support.keyset import Page, Place, Reader
from outbox.api import cursors, problems, serializers
from outbox.api.access import Permitted, Throttled, scoped, sees_all, sight, view_permission
from outbox.api.formats import OnlyJSON, Parser, Renderer
from outbox.api.openapi import CURSOR, FILTER, LIMIT, Schema, described
from outbox.database.limits import limited
from outbox.exceptions import UnusableFilter
from outbox.filtering.qualifiers import Selection, select

SECONDS = 5.0
"""How long a statement may take that reads (PostgreSQL)."""
SIZE, MAX_SIZE = 50, 200
"""Rows of a page."""

NUMBER = r"[0-9]{1,18}"


class Resource(ViewSet):
    """What is under the address `resource`, for those who may view all of its `models`.

    With `whole` it sums up rows, and is only for those who may see all rows of its models.
    `action_permissions` has what a method takes beyond that. One that is not `atomic` is in no
    transaction, also where ATOMIC_REQUESTS is on.
    """

    resource: ClassVar[str]
    models: ClassVar[Sequence[type[Model]]]
    whole: ClassVar[bool] = False
    action_permissions: ClassVar[dict[str, str]] = {}
    atomic: ClassVar[bool] = True

    renderer_classes = (Renderer,)
    parser_classes = (Parser,)
    permission_classes: Sequence[type[BasePermission]] = (Permitted,)
    throttle_classes: Sequence[type[BaseThrottle]] = (Throttled,)
    content_negotiation_class = OnlyJSON
    metadata_class = None
    versioning_class = None
    schema = Schema()
    lookup_field = "id"
    lookup_value_regex = NUMBER

    @classmethod
    def as_view(cls, *args: Any, **kwargs: Any) -> Any:
        view = super().as_view(*args, **kwargs)
        for alias in () if cls.atomic else connections:
            view = transaction.non_atomic_requests(using=alias)(view)
        return view

    def get_exception_handler(self) -> Callable[..., Any]:
        return problems.handle

    def needed_permissions(self) -> list[str]:
        """Return all permissions that the request takes."""
        extra = self.action_permissions.get(self.action or "")
        return [*map(view_permission, self.models), *([extra] if extra else [])]

    def check_permissions(self, request: Request) -> None:
        super().check_permissions(request)
        if self.whole and not all(sees_all(request, model) for model in self.models):
            self.permission_denied(request, message="It sums up what is beyond what you may see.")

    @classmethod
    def id_parameter(cls) -> OpenApiParameter:
        """Describe what names a row in the address."""
        shape = {"type": "string", "pattern": f"^{cls.lookup_value_regex}$"}
        return OpenApiParameter("id", shape, OpenApiParameter.PATH)


class Rows(Resource):
    """Rows of a model, which are found by their primary keys.

    `defers` are columns that no list needs. Name a row by another column in `find`.
    """

    model: ClassVar[type[Model]]
    item: ClassVar[type[serializers.Shape]]
    full: ClassVar[type[serializers.Shape]]
    page: ClassVar[type[serializers.Shape]]
    defers: ClassVar[Sequence[str]] = ()
    unindexed: ClassVar[bool] = False
    """Whether every() compares what no index finds in the order of the primary key."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "item" in vars(cls):
            cls.page = serializers.page_of(cls.item)
            if "full" not in vars(cls):
                cls.full = cls.item
        if "model" in vars(cls) and "models" not in vars(cls):
            cls.models = (cls.model,)

    def every(self) -> QuerySet[Any]:
        """Return the rows of the resource, from where lists are read."""
        return self.model._default_manager.all()

    def rows(self) -> QuerySet[Any]:
        """Return those that the request may see."""
        return scoped(self.request, self.every())

    def to_change(self) -> QuerySet[Any]:
        """Return the same from where they are written."""
        return self.rows().using(router.db_for_write(self.model))

    def selected(self, text: str, using: str) -> Selection:
        """Return what a filter selects; raise ValidationError with where it cannot be read."""
        try:
            return select(self.model, text, using, sight=sight(self.request))
        except UnusableFilter as exc:
            raise ValidationError({"q": [str(exc)]}) from None

    @described(answer="page", query=(FILTER, CURSOR, LIMIT))
    def list(self, request: Request) -> Response:
        """Read a page of the list, the newest first. Nothing is counted."""
        text = request.query_params.get("q", "")
        of = cursors.mark(self.resource, text)
        given = request.query_params.get("cursor")
        place = cursors.decode(given, of) if given else None
        every = self.every()
        rows = scoped(request, every)
        # What a scope compares may have no index, so that a page looks at a part of the table.
        bounded = (Q(),) if self.unindexed or rows is not every else ()
        size = self.size(request)
        with limited(rows.db, SECONDS):
            selection = self.selected(text, rows.db)
            reader = Reader(
                queryset=selection.narrow(rows).defer(*self.defers),
                size=size,
                alternatives=selection.alternatives,
                unindexed=[*selection.rows, *bounded],
            )
            found = reader.read(place)
            self.prepare(found.rows, rows.db)
            results = self.item(found.rows, many=True).data
        return Response(
            {
                "results": results,
                "newer": cursors.encode(_newer(found, place), of),
                "older": cursors.encode(found.older, of),
                "partial": found.looked_to is not None,
            }
        )

    @described(answer="full")
    def retrieve(self, request: Request, id: str) -> Response:
        """Read one of them."""
        row = self.find(self.rows(), id)
        self.prepare([row], row._state.db)
        return Response(self.full(row).data)

    def find(self, rows: QuerySet[Any], name: str) -> Any:
        """Return the row of this name; raise NotFound if there is none that may be seen."""
        if not re.fullmatch(NUMBER, name):
            raise NotFound(self.missing(name))
        row = rows.filter(pk=int(name)).first()
        if row is None:
            raise NotFound(self.missing(name))
        return row

    def missing(self, name: str) -> str:
        return f"There is no {self.model._meta.verbose_name} {name!r}, or not for you."

    def prepare(self, rows: Sequence[Any], using: str) -> None:
        """Give rows what they are shown with, for all of a page at once."""

    @staticmethod
    def size(request: Request) -> int:
        """Return how many rows a page is to have."""
        text = request.query_params.get("limit", str(SIZE))
        if not re.fullmatch(r"[0-9]{1,3}", text, re.ASCII) or not 1 <= int(text) <= MAX_SIZE:
            raise ValidationError({"limit": [f"Give a number from 1 to {MAX_SIZE}."]})
        return int(text)


def _newer(page: Page, place: Place | None) -> Place | None:
    """Return where to look for what is newer: whoever is at the end asks there again."""
    if page.newer is not None or page.looked_to is not None:
        return page.newer
    if page.rows:
        return Place("after", page.rows[0].pk)
    return place if place is not None and place.side == "after" else None

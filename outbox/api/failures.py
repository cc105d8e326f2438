"""What fails, in groups of what fails alike; as the page of the admin shows it."""

from collections.abc import Sequence
from typing import Any, ClassVar

from django.db.models import Model
from drf_spectacular.utils import OpenApiParameter
from rest_framework import serializers as rest
from rest_framework.decorators import action
from rest_framework.exceptions import NotFound, PermissionDenied
from rest_framework.request import Request
from rest_framework.response import Response

from outbox.api.access import sees_all, view_permission
from outbox.api.fields import Id, Instant, number
from outbox.api.fields import text as line
from outbox.api.openapi import described
from outbox.api.problems import Conflict
from outbox.api.serializers import Shape
from outbox.api.views import SECONDS, Resource
from outbox.database.limits import limited
from outbox.extensions.failures import FailureSource, sources
from outbox.failures.grouping import find
from outbox.failures.notes import MAX_NOTE, PERMISSION, notes
from outbox.failures.notes import write_note as write
from outbox.failures.telling import as_data
from outbox.operations import MAX_REASON

FINGERPRINT = OpenApiParameter(
    "fingerprint",
    {"type": "string", "pattern": "^[0-9a-f]{32}$"},
    OpenApiParameter.PATH,
    description="a group",
)
MOST = 200
"""Groups of a kind, those that have failed last."""


class GroupShape(Shape):
    """Failures that are alike: of one handler, class and place in the code.

    `newest` is the id of the row that has failed last. The count is `estimated` if not every
    traceback was read.
    """

    fingerprint = line()
    by = line()
    error_class = line()
    text = line()
    frame = rest.CharField(read_only=True, allow_null=True)
    count = number()
    estimated = rest.BooleanField(read_only=True)
    states = rest.DictField(child=number(), read_only=True)
    first = Instant()
    last = Instant()
    newest = Id()
    note = rest.CharField(read_only=True, allow_null=True)


class NoteShape(Shape):
    """What people have to say about a group; all null if nobody has."""

    text = line(allow_null=True)
    author = line(allow_null=True)
    changed = Instant(allow_null=True)


class NoteChange(Shape):
    """A note in the place of the one that was seen: `seen` is when that was changed.

    A blank text takes the note away.
    """

    text = rest.CharField(max_length=MAX_NOTE, allow_blank=True)
    seen = rest.DateTimeField(required=False, allow_null=True)
    reason = rest.CharField(max_length=MAX_REASON, required=False, allow_blank=True)


class KindShape(Shape):
    """What fails of one kind; `partial` if there is more than was read."""

    kind = line()
    partial = rest.BooleanField(read_only=True)  # type: ignore[assignment]
    groups = GroupShape(many=True, read_only=True)


class FailuresShape(Shape):
    """What fails of all kinds that one may view."""

    results = KindShape(many=True, read_only=True)


class Failures(Resource):
    """What fails alike, by kind: receipts, dead letters, parked messages."""

    resource = "failures"
    models: ClassVar[Sequence[type[Model]]] = ()
    action_permissions: ClassVar[dict[str, str]] = {"write_note": PERMISSION}
    lookup_value_regex = "[^/]+"

    @described(answer=FailuresShape)
    def list(self, request: Request) -> Response:
        """Read what fails, in groups of what fails alike, those that have failed last first."""
        visible = [each for each in sources() if self._may_view(each)]
        if not visible:
            raise PermissionDenied("It takes to view receipts, dead letters or parked messages.")
        return Response(FailuresShape({"results": [_read(each) for each in visible]}).data)

    @described(answer=KindShape)
    def retrieve(self, request: Request, id: str) -> Response:
        """Read what fails of one kind."""
        source = self._visible(id)
        return Response(KindShape(_read(source)).data)

    @described(answer=NoteShape, query=(FINGERPRINT,))
    @action(detail=True, url_path="(?P<fingerprint>[0-9a-f]{32})/note")
    def note(self, request: Request, id: str, fingerprint: str) -> Response:
        """Read the note on a group, whether anything of it fails now or not."""
        self._visible(id)
        return Response(_note(fingerprint))

    @described(answer=NoteShape, request=NoteChange, query=(FINGERPRINT,))
    @note.mapping.put
    def write_note(self, request: Request, id: str, fingerprint: str) -> Response:
        """Write a note on a group. Takes the permission `django_outbox.change_failurenote`."""
        self._visible(id)
        given = NoteChange(data=request.data)
        given.is_valid(raise_exception=True)
        wanted = given.validated_data
        seen, reason = wanted.get("seen"), wanted.get("reason", "")
        if not write(fingerprint, wanted["text"], user=request.user, seen=seen, reason=reason):
            raise Conflict("Somebody else has written meanwhile. Read it again.", None)
        return Response(_note(fingerprint))

    def _visible(self, name: str) -> FailureSource:
        source = next((each for each in sources() if each.name == name), None)
        if source is None:
            raise NotFound(f"There is no kind {name!r}.")
        if not self._may_view(source):
            raise PermissionDenied(f"It takes the permission {view_permission(source.model)}.")
        return source

    def _may_view(self, source: FailureSource) -> bool:
        allowed = self.request.user.has_perm(view_permission(source.model))
        return allowed and sees_all(self.request, source.model)

    @classmethod
    def id_parameter(cls) -> OpenApiParameter:
        shape = {"type": "string", "minLength": 1}
        return OpenApiParameter("id", shape, OpenApiParameter.PATH, description="a kind")


def _note(fingerprint: str) -> Any:
    note = notes([fingerprint]).get(fingerprint)
    nothing = {"text": None, "author": None, "changed": None}
    return NoteShape(nothing if note is None else note).data


def _read(source: FailureSource) -> dict[str, Any]:
    using = source.database()
    with limited(using, SECONDS):
        found = find(source, using)
    shown = found.groups[:MOST]
    written = notes(each.fingerprint for each in shown)
    groups = [as_data(each, written.get(each.fingerprint)) for each in shown]
    partial = found.cut or len(found.groups) > MOST
    return {"kind": source.name, "partial": partial, "groups": groups}

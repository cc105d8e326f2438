"""Ask over HTTP: POST is accepted and answered later, at an address that says how it stands.

class Quotes(AcceptedView):
    request_type = Quote

router = SimpleRouter()
router.register("quotes", Quotes, basename="quotes")
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, ClassVar
from urllib.parse import urlsplit

from django.db import connections, transaction
from django.utils.cache import patch_vary_headers
from rest_framework.exceptions import (
    NotAuthenticated,
    NotFound,
    PermissionDenied,
    ValidationError,
)
from rest_framework.request import Request as HTTPRequest
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.viewsets import ViewSet

from outbox.api import headers, problems
from outbox.api.accepted_schema import AcceptedSchema
from outbox.api.access import VIEW_DATA, scoped, view_permission
from outbox.api.formats import OnlyJSON, Parser, Renderer
from outbox.api.problems import Conflict, KeyMissing, KeyUsed
from outbox.api.standing import Standing, etag_of, read
from outbox.exceptions import ConfigurationError, InvalidEvent, OtherRequest
from outbox.message import codec
from outbox.message.event_types import EventType, registry
from outbox.models import Request
from outbox.producer.writing import in_transaction, write_database
from outbox.replies.asked import Asked
from outbox.replies.asking import ask_or_find
from outbox.states import Outcome

logger = logging.getLogger("outbox")

_waiting = 0
_counting = threading.Lock()


class AcceptedView(ViewSet):
    """Asks with POST, and tells with GET how it stands; register it with a router of DRF.

    `request_type` is the class of the request, or its name if it has none; all else is optional.
    `serializer_class` reads the body; without one it has the fields of the request's class.
    `within` is how long an answer counts, by default what the request's declaration says, and
    `replies` is how many are wanted. `key_required` refuses a POST without an Idempotency-Key.
    `max_wait` is how many seconds `Prefer: wait=` may hold a request, 0 for none, and
    `max_waiting` how many requests of all such views may wait at once in one process; the others
    are answered at once.
    """

    request_type: ClassVar[type | str] = ""
    serializer_class: ClassVar[type[BaseSerializer[Any]] | None] = None
    within: ClassVar[timedelta | None] = None
    replies: ClassVar[int] = 1
    key_required: ClassVar[bool] = False
    max_wait: ClassVar[int] = 20
    max_waiting: ClassVar[int] = 8

    renderer_classes = (Renderer,)
    parser_classes = (Parser,)
    content_negotiation_class = OnlyJSON
    metadata_class = None
    schema = AcceptedSchema()
    lookup_field = "id"

    def owner(self, request: HTTPRequest) -> str:
        """Return who asks, as a text of up to 255 characters: requests are for nobody else.

        By default it is the primary key of the user. Returns "" for those who may not ask.
        """
        user = request.user
        return str(user.pk) if user.is_authenticated and user.pk is not None else ""

    def to_request(self, data: Any) -> Any:
        """Return the request that a body asks for, an instance of its class.

        It may read the database, in the transaction that asks.
        The same body must make the same request, or it is another one for its idempotency key.
        Raises ValidationError if it makes none.
        """
        return codec.build(data, self.event_type())

    def callback_url(self, request: HTTPRequest) -> str:
        """Return where the end of the request is POSTed to, "" for nowhere: see ask().

        Called with a POST. A URL that cannot be called back answers it with 400.
        """
        return ""

    def accepted(self, asked: Asked, request: Any) -> None:
        """Write what belongs to a new request, in the transaction that asks; called once for each.

        What it raises takes all of it back.
        """

    def create(self, request: HTTPRequest) -> Response:
        """Ask. Answers 202 with the address at which to ask how it stands.

        Asked again with the same Idempotency-Key and body it is the same request. `Prefer: wait=5`
        waits that long for the result, and answers 200 if it comes.
        """
        key = headers.idempotency_key(request.headers)
        if self.key_required and not key:
            raise KeyMissing(
                "Send an Idempotency-Key header: a text that is new for each request, and the same "
                "when one is repeated."
            )
        using = write_database()
        waits = self._may_wait(using)
        asked = self._ask(request, key, using)
        waited = self._wait(asked, waits)
        standing = read(Request.objects.using(using), asked.id)
        assert standing is not None
        response = self._told(standing, waited)
        if standing.is_pending:
            response.status_code = 202
        response["Location"] = self._address(standing.id)
        return response

    def retrieve(self, request: HTTPRequest, id: str) -> Response:
        """Read how it stands: its state, and its result if it has one."""
        using = write_database()
        standing = self._find(id, using)
        waited = 0
        if standing.is_pending:
            waited = self._wait(Asked(standing.id, using), self._may_wait(using))
            if waited:
                standing = self._find(id, using)
        return self._told(standing, waited)

    def destroy(self, request: HTTPRequest, id: str) -> Response:
        """Cancel it. Answers 409 with its state if it has ended otherwise."""
        using = write_database()
        standing = self._find(id, using)
        if standing.request.owner != self._owner:
            raise PermissionDenied(
                "Only who has asked it cancels it here; the API has an action for others."
            )
        if standing.is_pending:
            Asked(standing.id, using).cancel(by=self._owner)
            standing = self._find(id, using)
        if standing.state != Outcome.CANCELLED:
            raise Conflict(f"It is {standing.state}.", standing.state)
        return self._told(standing, 0)

    @classmethod
    def event_type(cls) -> EventType:
        """Return the type of the request; raise ConfigurationError if it is none."""
        name = cls.request_type
        if not name:
            raise ConfigurationError(f"{cls.__qualname__}: say what it asks, request_type = ...")
        found = registry.of_class(name) if isinstance(name, type) else registry.named(name)
        if not found.is_request:
            raise ConfigurationError(
                f"{cls.__qualname__}: {found} is no request. Declare it with @outbox.request(...)."
            )
        return found

    @classmethod
    def as_view(cls, *arguments: Any, **options: Any) -> Any:
        cls.event_type()
        view = super().as_view(*arguments, **options)
        # It has a transaction of its own, behind which it waits, also where ATOMIC_REQUESTS is on.
        for alias in connections:
            view = transaction.non_atomic_requests(using=alias)(view)
        return view

    def initial(self, request: HTTPRequest, *arguments: Any, **options: Any) -> None:
        super().initial(request, *arguments, **options)
        owner: object = self.owner(request)
        self._owner = "" if owner in (None, False) else str(owner)
        if not self._owner:
            raise NotAuthenticated

    def get_exception_handler(self) -> Callable[..., Any]:
        return problems.handle

    def _ask(self, request: HTTPRequest, key: str, using: str) -> Asked:
        with transaction.atomic(using=using):
            try:
                wanted = self.to_request(self._body(request))
                event_type = self.event_type()
                asked, new = ask_or_find(
                    *((event_type.name, wanted) if event_type.schema is None else (wanted,)),
                    within=self.within,
                    replies=self.replies,
                    idempotency_key=key,
                    owner=self._owner,
                    callback_url=self.callback_url(request) or "",
                    using=using,
                )
            except OtherRequest:
                raise KeyUsed(
                    f"The {headers.KEY} was used for a request that says something else. Send "
                    "another key with another request."
                ) from None
            except InvalidEvent as exc:
                raise ValidationError(str(exc)) from None
            if new:
                self.accepted(asked, wanted)
        return asked

    def _body(self, request: HTTPRequest) -> Any:
        if self.serializer_class is None:
            return request.data
        serializer = self.serializer_class(data=request.data, context={"request": request})
        serializer.is_valid(raise_exception=True)
        return serializer.validated_data

    def _find(self, id: str, using: str) -> Standing:
        """Return a request that may be seen; others are told what they would be if it was none."""
        rows = Request.objects.using(using).filter(type=self.event_type().name)
        found = read(rows, id)
        if found is None or not self._is_seen(found.request, using):
            raise NotFound("There is no such request, or it is not yours.")
        return found

    def _is_seen(self, row: Request, using: str) -> bool:
        if row.owner == self._owner:
            return True
        user = self.request.user
        if not (getattr(user, "is_staff", False) and user.has_perm(view_permission(Request))):
            return False
        rows = Request.objects.using(using).filter(pk=row.pk)
        seen = scoped(self.request, rows)
        return user.has_perm(VIEW_DATA) and (seen is rows or seen.exists())

    def _may_wait(self, using: str) -> int:
        """Return how many seconds the request prefers to wait, and may."""
        preferred = headers.preferences(self.request.headers).get("wait", "")
        wait = headers.seconds(preferred, self.max_wait)
        if wait and in_transaction(connections[using]):
            logger.warning(
                "%s does not wait for an answer: a transaction is around the view, and what is "
                "asked is sent when that has committed.",
                type(self).__qualname__,
            )
            return 0
        return wait

    def _wait(self, asked: Asked, seconds: int) -> int:
        """Wait, if there is a place; return for how long, at most."""
        if not seconds:
            return 0
        with _place(self.max_waiting) as free:
            if free:
                asked.wait(seconds)
            return seconds if free else 0

    def _told(self, standing: Standing, waited: int) -> Response:
        """Answer with how a request stands, or that this has been seen."""
        document = standing.document()
        etag = etag_of(document)
        seen = self.request.method in ("GET", "HEAD") and headers.has_seen(
            self.request.headers, etag
        )
        response = Response(status=304) if seen else Response(document)
        response["ETag"] = etag
        response["Cache-Control"] = "private, no-cache"
        response["Content-Location"] = self._address(standing.id)
        patch_vary_headers(response, ["Prefer"])
        if standing.is_pending:
            response["Retry-After"] = str(standing.retry_after())
        if waited:
            response["Preference-Applied"] = f"wait={waited}"
        return response

    def _address(self, id: str) -> str:
        """Return where a request is, from the root: what a proxy calls this host does not count."""
        place = urlsplit(self.reverse_action("detail", args=[id]))
        return place._replace(scheme="", netloc="").geturl()


@contextmanager
def _place(most: int) -> Iterator[bool]:
    """Take one of the places of those who wait in this process, if one is free."""
    global _waiting
    with _counting:
        free = _waiting < most
        _waiting += free
    try:
        yield free
    finally:
        with _counting:
            _waiting -= free

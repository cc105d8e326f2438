"""The stream of what enters the log: server-sent events under ASGI, else by long polling.

The id of each event is a bookmark of the log (relay.log.following), so that whoever comes back with
`Last-Event-ID` goes on exactly, across late commits. No connection to the database is held while
there is nothing to send.
"""

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.db import connections
from django.http import HttpResponseBase, StreamingHttpResponse
from drf_spectacular.utils import OpenApiParameter
from rest_framework import serializers as rest
from rest_framework.exceptions import Throttled, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from outbox.api.access import scoped, sight
from outbox.api.fields import text
from outbox.api.messages import MessageItem, Messages
from outbox.api.openapi import FILTER, described
from outbox.api.problems import Gone, Kind
from outbox.api.serializers import Shape
from outbox.api.views import SECONDS, Resource
from outbox.database.limits import limited
from outbox.exceptions import UnusableFilter
from outbox.filtering.qualifiers import select
from outbox.models import Message
from outbox.producer.writing import write_database
from relay.exceptions import MovedDatabase
from relay.log.following import Bookmark, Follower, Glance

EVENTS = "text/event-stream"
SIZE = 100
"""Messages that are read at once."""
LOOK_EVERY, SOON = 1.0, 0.1
"""Seconds between two looks at the log, and if something waits for the disk alone."""
PATIENCE = 1.0
"""Seconds that a request waits in any case for what may only wait for the disk."""
HEARTBEAT = 15.0
LONGEST = 600.0
"""Seconds after which a stream ends; whoever listens comes back."""
MOST_WAIT = 20
MOST_LISTENERS = 5
"""Streams and waiting requests that a user may have, in one process."""

_CURSOR = OpenApiParameter("cursor", str, description="go on from there, as with Last-Event-ID")
_FROM = OpenApiParameter(
    "from",
    {"type": "string", "enum": ["now", "beginning"]},
    description="where to begin without a cursor: by default with what commits from now on",
)
_WAIT = OpenApiParameter(
    "wait",
    {"type": "integer", "minimum": 0, "maximum": MOST_WAIT},
    description="seconds to wait for something, without a stream",
)
_LAST = OpenApiParameter(
    "Last-Event-ID", str, OpenApiParameter.HEADER, description="the id of the last event"
)

_listeners: Counter[Any] = Counter()
_counting = threading.Lock()


class StreamPage(Shape):
    """What has come since, in the order in which it can be read, and where to go on."""

    results = MessageItem(many=True, read_only=True)
    cursor = text()
    more = rest.BooleanField(read_only=True, help_text="whether there may be more at once")


@dataclass(slots=True)
class Listener:
    """What one request follows: which rows it sees, and how far it has come."""

    request: Request
    filter: str
    mark: Bookmark
    using: str
    follower: Follower = field(init=False)

    def __post_init__(self) -> None:
        self.follower = Follower(self.using)

    def look(self) -> tuple[Glance, list[tuple[Bookmark, dict[str, Any]]]]:
        """Return what is next, and of it what the request may see and wants to, with bookmarks."""
        with limited(self.using, SECONDS):
            glance = self.follower.read(self.mark, SIZE)
            found = self._rows(glance.positions)
        self.mark = glance.after
        items = MessageItem(found, many=True).data
        return glance, [
            (glance.bookmark(row.position), item) for row, item in zip(found, items, strict=True)
        ]

    def look_and_leave(self) -> tuple[Glance, list[tuple[Bookmark, dict[str, Any]]]]:
        """Do the same, and give the connection to the database back."""
        try:
            return self.look()
        finally:
            leave(self.using)

    def _rows(self, positions: Sequence[int]) -> list[Message]:
        if not positions:
            return []
        log = Message.objects.using(self.using).filter(position__in=positions)
        rows = scoped(self.request, log)
        if self.filter:
            rows = select(Message, self.filter, self.using, sight=sight(self.request)).of(rows)
        found = list(rows.defer(*Messages.defers).order_by("position"))
        Messages().prepare(found, self.using)
        return found


class Stream(Resource):
    """What enters the log."""

    resource = "stream"
    models = (Message,)
    atomic = False  # it must not wait within a transaction

    @described(
        answer=StreamPage,
        also=EVENTS,
        query=(FILTER, _CURSOR, _FROM, _WAIT, _LAST),
        problems=(Kind.GONE,),
    )
    def list(self, request: Request) -> HttpResponseBase:
        """Follow the log. With a cursor nothing is skipped, however late a transaction commits.

        Server-sent events for whoever accepts them, under ASGI: the id of each is a cursor. Else a
        page, as soon as there is something or `wait` seconds have passed; without a cursor and from
        now on it is empty, and has the first cursor.
        """
        wait = _wait(request)
        using = write_database()
        given = request.headers.get("Last-Event-ID") or request.query_params.get("cursor", "")
        text = request.query_params.get("q", "")
        try:
            select(Message, text, using, sight=sight(request))
        except UnusableFilter as exc:
            raise ValidationError({"q": [str(exc)]}) from None
        listener = Listener(request, text, _mark(request, given, using), using)
        streams = EVENTS in request.headers.get("Accept", "")
        place = Place(request.user.pk)
        kept = False
        try:
            if streams and isinstance(request._request, ASGIRequest):
                # Whatever is wrong with its place in the log is told with a status.
                response = _events(listener, listener.look_and_leave(), place)
                kept = True
                return response
            if not given and _from(request) == "now":
                return Response({"results": [], "cursor": str(listener.mark), "more": False})
            return Response(_page(listener, wait))
        except MovedDatabase as exc:
            raise Gone(str(exc)) from None
        finally:
            if not kept:
                place.free()


def leave(using: str) -> None:
    """Give the connection to a database back, unless it is in a transaction of somebody else's."""
    if not connections[using].in_atomic_block:
        connections[using].close()


class Place:
    """One of the places that a user has to listen; free() may be called more than once.

    Raises Throttled if the user has no more.
    """

    def __init__(self, user: Any) -> None:
        self._user = user
        with _counting:
            if _listeners[user] >= MOST_LISTENERS:
                raise Throttled(detail=f"You are listening {MOST_LISTENERS} times already.")
            _listeners[user] += 1
            self._taken = True

    def free(self) -> None:
        with _counting:
            if self._taken:
                self._taken = False
                _listeners[self._user] -= 1
                if not _listeners[self._user]:
                    del _listeners[self._user]


def _page(listener: Listener, wait: float) -> dict[str, Any]:
    """Return what is there, or comes within so many seconds."""
    started = time.monotonic()
    while True:
        glance, found = listener.look()
        # What waits for the disk alone must not be missed by whoever does not wait at all.
        patience = max(wait, PATIENCE) if listener.follower.hurried else wait
        left = started + patience - time.monotonic()
        if found or (left <= 0 and not glance.positions):
            page = {"results": [item for _, item in found], "cursor": str(listener.mark)}
            return page | {"more": len(glance.positions) == SIZE}
        if not glance.positions:
            leave(listener.using)
            time.sleep(min(left, SOON if listener.follower.hurried else LOOK_EVERY))


def _events(
    listener: Listener, first: tuple[Glance, list[tuple[Bookmark, dict[str, Any]]]], place: Place
) -> StreamingHttpResponse:
    response = StreamingHttpResponse(_stream(listener, first, place), content_type=EVENTS)
    # Whoever goes in the middle of an event closes the response, and not what makes the events.
    response._resource_closers.append(place.free)  # type: ignore[attr-defined]
    response["Cache-Control"] = "no-store"
    response["X-Accel-Buffering"] = "no"
    return response


async def _stream(
    listener: Listener, seen: tuple[Glance, list[tuple[Bookmark, dict[str, Any]]]], place: Place
) -> AsyncIterator[str]:
    """Yield events as they come, and a comment now and then, until it is time to come back."""
    look = sync_to_async(listener.look_and_leave, thread_sensitive=False)
    try:
        yield "retry: 1000\n\n"
        end, told = time.monotonic() + LONGEST, time.monotonic()
        while time.monotonic() < end:
            glance, found = seen
            for mark, item in found:
                yield f"id: {mark}\nevent: message\ndata: {json.dumps(item)}\n\n"
                told = time.monotonic()
            if time.monotonic() - told >= HEARTBEAT:
                # An id without data is remembered, and tells nobody.
                yield f": there is nothing new\nid: {listener.mark}\n\n"
                told = time.monotonic()
            if not glance.positions:
                await asyncio.sleep(SOON if listener.follower.hurried else LOOK_EVERY)
            try:
                seen = await look()
            except MovedDatabase:
                return  # whoever comes back is told
    finally:
        place.free()


def _mark(request: Request, given: str, using: str) -> Bookmark:
    if not given:
        follower = Follower(using)
        return follower.beginning() if _from(request) == "beginning" else follower.now()
    try:
        return Bookmark.read(given)
    except ValueError:
        text = "This is no cursor of the stream. Take one from an answer."
        raise ValidationError({"cursor": [text]}) from None


def _from(request: Request) -> str:
    begin: str = request.query_params.get("from", "now")
    if begin not in ("now", "beginning"):
        raise ValidationError({"from": ["Say now or beginning."]})
    return begin


def _wait(request: Request) -> float:
    text = request.query_params.get("wait", "0")
    if not (text.isascii() and text.isdigit() and int(text[:9]) <= MOST_WAIT):
        raise ValidationError({"wait": [f"Give a number of seconds from 0 to {MOST_WAIT}."]})
    return float(text[:9])

"""What a Django project puts into its URLs, for other services to ask about a conversation."""

from collections.abc import Callable

from django.db import Error
from django.db.transaction import non_atomic_requests
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from outbox import bearer
from outbox.conf import outbox_settings
from outbox.database.limits import limited
from outbox.flow import wire
from outbox.flow.halves import Half
from outbox.flow.loading import conversation_of, is_name, of_key, read
from outbox.producer.writing import write_database

LIMIT = 1.0
"""Seconds that a statement may take."""
OF_KEY = 200
"""Messages of a key that are told, the newest."""


def conversation_view(
    *, token: str, using: str | None = None
) -> Callable[[HttpRequest], HttpResponse]:
    """Return a view that tells what this service knows of a conversation, as JSON.

    Whoever sends `Authorization: Bearer <token>` may ask `?of=<correlation id or message id>`, or
    `?key=<key>` for the newest messages of a key. It tells of messages what their headers say, and
    what became of them; errors without secrets, and no data. `using` is the alias of the outbox's
    database, by default as the routers say. Raises ConfigurationError if the token is empty, as an
    unset variable is, or is not ASCII.
    """
    token = bearer.usable(token, "conversation_view()")

    @non_atomic_requests
    @never_cache
    @require_safe
    def conversation(request: HttpRequest) -> HttpResponse:
        if not bearer.bears(request, token):
            return HttpResponse(status=401, headers={"WWW-Authenticate": "Bearer"})
        name, key = request.GET.get("of", ""), request.GET.get("key", "")
        if not is_name(name or key):
            text = "name a conversation or a message (of), or a key (key)"
            return JsonResponse({"detail": text}, status=400)
        alias = using or write_database()
        try:
            with limited(alias, LIMIT):
                half = _conversation(name, alias) if name else _key(key, alias)
        except Error:
            return JsonResponse({"detail": "it cannot be read in time"}, status=503)
        body = wire.encode(half, outbox_settings().source)
        return HttpResponse(body, content_type="application/json")

    return conversation


def _conversation(name: str, using: str) -> Half:
    found, _ = conversation_of(name, using)
    return read(found, using, limit=wire.MESSAGES)


def _key(key: str, using: str) -> Half:
    sent, _ = of_key(key, using, limit=OF_KEY + 1)
    cut = len(sent) > OF_KEY
    return Half(correlation_id=key, sent=sent[-OF_KEY:], cut_at=OF_KEY if cut else None)

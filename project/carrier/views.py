"""What other services send to the carrier, and ask it: with a token, as JSON or CloudEvents."""

import json
from collections.abc import Callable
from functools import wraps
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Count
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from inbox.delivery import Delivery
from inbox.sources.local import receive
from outbox import bearer
from outbox.exceptions import UndecodableMessage
from project.carrier.models import Parcel

View = Callable[[HttpRequest], HttpResponse]


def for_services(view: View) -> View:
    """Let in who has the token; there are no cookies, so nothing to forge."""

    @csrf_exempt
    @require_POST
    @wraps(view)
    def guarded(request: HttpRequest) -> HttpResponse:
        if not bearer.bears(request, settings.FLOW_TOKEN):
            return HttpResponse(status=401, headers={"WWW-Authenticate": "Bearer"})
        return view(request)

    return guarded


@for_services
def take(request: HttpRequest) -> HttpResponse:
    """Take a CloudEvent (HTTP, binary mode): once it is answered, the inbox has it in its care."""
    headers = {name.lower(): value for name, value in request.headers.items()}
    message = Delivery(
        headers={name: value for name, value in headers.items() if name.startswith("ce-")},
        body=request.body,
        content_type=request.content_type or None,
        topic=headers.get("ce-type", ""),
    )
    try:
        envelope = message.decode()
    except UndecodableMessage as exc:
        return JsonResponse({"detail": str(exc)}, status=400)
    with transaction.atomic():
        receive([envelope], using="default")
    return HttpResponse(status=202)


@for_services
def count(request: HttpRequest) -> HttpResponse:
    """Tell how many parcels there are of orders, whose ids are sent as a list."""
    try:
        wanted = [UUID(each) for each in json.loads(request.body)]
    except (TypeError, ValueError, AttributeError):
        return JsonResponse({"detail": "send a list of ids"}, status=400)
    found = Parcel._default_manager.filter(order_id__in=wanted).values("order_id")
    counts = found.annotate(parcels=Count("pk")).values_list("order_id", "parcels")
    return JsonResponse({str(order): number for order, number in counts})

"""What a Django project puts into its URLs: metrics for Prometheus, and how the process is."""

from collections.abc import Callable

from django.db.transaction import non_atomic_requests
from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from outbox import bearer
from outbox.exceptions import ConfigurationError
from outbox.producer.writing import write_database
from outbox.telemetry import exporting
from outbox.telemetry.readiness import LIMIT, Readiness, Tables

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def metrics_view(
    *, token: str | None, using: str | None = None
) -> Callable[[HttpRequest], HttpResponse]:
    """Return a view that shows the gauges to whoever sends `Authorization: Bearer <token>`.

    With "prometheus" in OUTBOX["METRICS"] also what this process has counted, or, with
    PROMETHEUS_MULTIPROC_DIR, all processes that share that directory.
    With None as token anybody may see them: names of relays, lanes and handlers, and numbers. That
    is for an address that only the monitoring reaches. `using` is the alias of the outbox's
    database, by default as the routers say. Raises ConfigurationError if the token is empty, as an
    unset variable is, or is not ASCII, or the extra `prometheus` is not installed.
    """
    try:
        from outbox.telemetry.exposition import Exposition  # noqa: PLC0415
    except ImportError:
        raise ConfigurationError(
            "Metrics need prometheus-client: pip install 'django-outbox-inbox[prometheus]'"
        ) from None
    if token is not None:
        token = bearer.usable(
            token,
            "metrics_view()",
            ", or None to show metrics to everybody who reaches this address",
        )
    found: dict[str, Exposition] = {}

    @non_atomic_requests
    @never_cache
    @require_safe
    def metrics(request: HttpRequest) -> HttpResponse:
        if token is not None and not bearer.bears(request, token):
            return HttpResponse(status=401, headers={"WWW-Authenticate": "Bearer"})
        alias = using or write_database()
        if alias not in found:
            found.setdefault(alias, Exposition(alias))
        both = found[alias].text() + exporting.text()
        return HttpResponse(both, content_type=CONTENT_TYPE)

    return metrics


def health_view() -> Callable[[HttpRequest], HttpResponse]:
    """Return a view that says that this process answers, and asks nobody: for a liveness probe.

    It needs no permission. A database that is away is no reason to start a process anew.
    """

    @non_atomic_requests
    @never_cache
    @require_safe
    def health(request: HttpRequest) -> HttpResponse:
        return _said("")

    return health


def ready_view(
    *, using: str | None = None, limit: float = LIMIT
) -> Callable[[HttpRequest], HttpResponse]:
    """Return a view that says whether the database answers and is migrated: a readiness probe.

    200, or 503 and a word: "database" or "migrations". It needs no permission; the reason is in the
    log. The database is asked once a second at most, however many ask, and counts as away if it has
    not answered within `limit` seconds. Of the migrations only those of outbox, relay and inbox
    matter. `using` is the alias of their database, by default as the routers say.
    """
    readiness = Readiness(Tables(using), limit=limit)

    @non_atomic_requests
    @never_cache
    @require_safe
    def ready(request: HttpRequest) -> HttpResponse:
        return _said(readiness.missing())

    return ready


def _said(missing: str) -> HttpResponse:
    return HttpResponse(
        f"{missing or 'ok'}\n", status=503 if missing else 200, content_type="text/plain"
    )

"""Who may see and do what: Django's model permissions, the scope of a tenant, and how often."""

from typing import Any, cast

from django.db.models import Model, QuerySet
from rest_framework.exceptions import PermissionDenied
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.settings import api_settings as rest_settings
from rest_framework.throttling import ScopedRateThrottle

from outbox.api.conf import api_settings, scope
from outbox.filtering.qualifiers import Sight

VIEW_DATA = "django_outbox.view_data"
"""The permission to see what messages carry: of the log, of receipts and of dead letters."""


def view_permission(model: type[Model]) -> str:
    """Return the permission to look at rows of a model."""
    return f"{model._meta.app_label}.view_{model._meta.model_name}"


class Permitted(BasePermission):
    """Lets those in who may view all models of a resource, and have what an action takes."""

    def has_permission(self, request: Request, view: Any) -> bool:
        user = request.user
        if not (user.is_authenticated and user.pk is not None):
            return False
        needed: list[str] = view.needed_permissions()
        missing = [each for each in needed if not user.has_perm(each)]
        if missing:
            raise PermissionDenied(f"It takes the permission {', '.join(missing)}.")
        return True


class Throttled(ScopedRateThrottle):
    """Counts requests that read apart from those that act.

    REST_FRAMEWORK["DEFAULT_THROTTLE_RATES"] goes before API, under "outbox-read" and "outbox-act".
    """

    def allow_request(self, request: Request, view: Any) -> bool:
        reads = request.method in ("GET", "HEAD", "OPTIONS")
        view.throttle_scope = "outbox-read" if reads else "outbox-act"
        return super().allow_request(request, view)

    def get_rate(self) -> str | None:
        rates = rest_settings.DEFAULT_THROTTLE_RATES or {}
        assert self.scope is not None
        if self.scope in rates:
            return cast("str | None", rates[self.scope])
        conf = api_settings()
        return (conf.READ_RATE if self.scope == "outbox-read" else conf.ACT_RATE) or None


def scoped(request: Request, rows: QuerySet[Any]) -> QuerySet[Any]:
    """Return those rows that a request may see."""
    narrow = scope()
    return rows if narrow is None else narrow(request, rows)


def sight(request: Request) -> Sight:
    """Return which rows of other models a filter may tell a request of."""

    def narrow(rows: QuerySet[Any]) -> QuerySet[Any] | None:
        allowed = request.user.has_perm(view_permission(rows.model))
        return scoped(request, rows) if allowed else None

    return narrow


def sees_all(request: Request, model: type[Model]) -> bool:
    """Tell whether a request may see every row of a model: its scope leaves the rows as they are.

    What sums rows up, such as the doctor's findings, is only for those.
    """
    rows = model._default_manager.all()
    return scoped(request, rows) is rows

"""What people may do to rows that are otherwise read-only: named, permissioned, written down."""

from collections.abc import Iterable
from typing import Any

from django.contrib.admin.models import CHANGE, LogEntry
from django.db.models import Model, QuerySet
from django.http import HttpRequest


def may(request: HttpRequest, model: type[Model], verb: str) -> bool:
    """Tell whether the user has the permission that a model declares for a verb."""
    meta = model._meta
    return request.user.has_perm(f"{meta.app_label}.{verb}_{meta.model_name}")


def write_down(
    request: HttpRequest, rows: Iterable[Model], what: str, *, flag: int = CHANGE
) -> None:
    """Keep in Django's log of admin actions who did what to which rows."""
    assert request.user.pk is not None  # the admin lets nobody else in
    LogEntry.objects.log_actions(
        user_id=request.user.pk,
        queryset=_chosen(rows),
        action_flag=flag,
        change_message=what,
    )


def _chosen(rows: Iterable[Model]) -> Any:
    return rows if isinstance(rows, QuerySet) else list(rows)

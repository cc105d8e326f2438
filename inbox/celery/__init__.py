"""Celery on the consuming side: tasks with effects once, and events in Celery's workers.

Safe to import before Django's apps are loaded, so also in the module of the Celery app. Importing
it lets the context of the outbox go with tasks; see outbox.celery.context.
"""

from inbox.celery.idempotent import idempotent
from inbox.celery.worker_step import ConsumeStep
from outbox.celery import context  # noqa: F401 - connects

__all__ = ["ConsumeStep", "idempotent"]

"""The example project: three services that talk to each other through outbox, relay and inbox."""

from project.celery import app as celery_app

__all__ = ["celery_app"]

"""A project of somebody else, which has the outbox from a package index."""

from boutique.celery import app as celery_app

__all__ = ["celery_app"]

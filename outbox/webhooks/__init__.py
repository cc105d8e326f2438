"""Callbacks over HTTP: which URLs and addresses may be called, and their signatures."""

from outbox.webhooks.signing import verify

__all__ = ["verify"]

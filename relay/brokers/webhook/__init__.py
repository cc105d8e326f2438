"""Callbacks over HTTP, as one more broker."""

from relay.brokers.webhook.broker import WebhookBroker

__all__ = ["WebhookBroker"]

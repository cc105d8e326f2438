"""Publish to AMQP 0-9-1: a window of messages that are not yet confirmed on one connection."""

from relay.brokers.amqp.broker import AMQPBroker

__all__ = ["AMQPBroker"]

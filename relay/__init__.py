"""Reads the outbox's log and publishes it, confirmed and in order per key."""

"""Idempotent consumers: a handler's database effects happen once per message.

Safe to import before Django's apps are loaded.
"""

from inbox.registry import Handler, handler

__all__ = ["Handler", "handler"]
